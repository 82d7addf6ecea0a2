"""A run directory -> its report, without a model: what every later look at a run begins with."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from completions_lp import store
from completions_lp.records import Report, VectorQuality
from completions_lp.report import summarize
from completions_lp.run.config import Config, dump_config, make_config
from completions_lp.run.settled import check_settled
from completions_lp.show.figures import GALLERY, check_names
from completions_lp.show.page import write_page
from completions_lp.show.text import format_latex, format_report


def load(folder: str | Path, *, config: Config | None = None) -> Report:
    """The report of what a run directory holds; writes nothing, needs no model and no torch.

    Raises:
        InputError: It is not a run directory, or a stage is missing.
    """
    folder = Path(folder)
    config = config or make_config(store.read_info(folder)["config"])
    completions = store.read_completions(folder, sampling=config.sampling, labelling=config.labelling)
    return summarize(
        store.read_increases(folder, completions),
        store.read_choices(folder, completions.prompts),
        store.read_measures(folder, completions.prompts),
        target=config.label.target,
        seed=config.sampling.seed,
        profile=store.read_profile(folder),
    )


def make_report(folder: str | Path, *, config: Config | None = None) -> Report:
    """The last stage: the numbers of the paper from the stored tables, written beside them.

    Raises:
        InputError: A stage is missing, or ``config`` differs from the stored one in what an earlier stage has followed.
    """
    folder = Path(folder)
    info = store.read_info(folder)
    config = config or make_config(info["config"])
    check_settled("report", dump_config(config), info["config"], folder)
    start = time.perf_counter()
    report = load(folder, config=config)
    store.drop_stale(folder, "report")
    title = f"{Path(config.model.name).name}: {Path(config.prompts.path).stem}"
    store.write_report(folder, report, format_report(report, title=title, quality=read_quality(folder)))
    info["config"] = dump_config(config)
    info.setdefault("timings", {})["report"] = round(time.perf_counter() - start, 3)
    info |= {"checks": dict(report.checks), "warnings": list(report.warnings), "errors": list(report.errors)}
    store.write_info(folder, info)
    write_page(folder)
    return report


def draw_figures(folder: str | Path, *, names: Sequence[str] = ()) -> list[Path]:
    """Draw figures of a run into its ``figures/``: PDF, PNG, the tidy CSV behind it and the caption of each.

    Args:
        folder: The run directory, its report made.
        names: Names of ``figures.GALLERY``; by default all.

    Returns:
        The PDFs. The table of the main numbers lies beside them as LaTeX, and ``report.html`` is made anew with them.

    Raises:
        InputError: There is no such figure, or a stage is missing.
    """
    folder = Path(folder)
    check_names(names)
    report = load(folder)
    validation = store.read_validation(folder)
    drawn = []
    for name in names or GALLERY:
        view = GALLERY[name](report, **({"validation": validation} if name == "diagnostics" else {}))
        drawn.append(view.save(folder / "figures" / name))
    store.write_text(folder / "figures" / "table.tex", format_latex(report))
    write_page(folder)
    return drawn


def read_quality(folder: str | Path) -> Mapping[int, VectorQuality]:
    """How well the stored target vector is known, by layer; empty where its file does not say."""
    return next((v.quality for v in store.read_vectors(Path(folder)) if v.kind == "target"), {})
