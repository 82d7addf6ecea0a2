"""A run directory <-> its report, without a model: what every later look at a run begins with."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from completions_lp import store
from completions_lp.job.config import Config, make_config
from completions_lp.job.nested import hash_sets, join_sets, read_sets
from completions_lp.job.provenance import check_earlier, describe_stage, list_changed
from completions_lp.records import Increases, InputError, Measures, ProfileRow, Readings, Report
from completions_lp.report import summarize
from completions_lp.report.doses import index_doses
from completions_lp.report.rounding import put_back
from completions_lp.show.escape import escape_rows
from completions_lp.show.page import Figure, make_page, name_run
from completions_lp.show.text import format_latex, format_report


def load(folder: str | Path, *, sets: bool = True) -> Report:
    """The report of what a run directory holds, from its stored scores; writes nothing, needs no model and no torch.

    With ``sets`` its off-target sets are read, too; one that is not made, or not as is asked for, is a warning.

    Raises:
        InputError: It is not a run directory, or a stage is missing.
    """
    folder = Path(folder)
    info = store.read_info(folder)
    config = make_config(info["config"])
    check_finished(folder, info)
    foreign = "imported" in info
    completions = store.read_completions(folder, sampling=config.sampling, labelling=config.labelling, may_lack=foreign)
    failed = info["stages"]["score"].get("failed", {})
    completions = completions.select([i for i, prompt in enumerate(completions.prompts) if prompt.id not in failed])
    increases = store.read_increases(folder, completions, through=config.scoring.through)
    read = all(prompt.is_read_out for prompt in completions.prompts)
    choices = store.read_choices(folder, increases) if read else None
    measures = store.read_measures(folder, increases) if len(completions) else None
    is_read = "readings.parquet" in info["stages"]["score"].get("files", {})
    readings = store.read_readings(folder, completions) if is_read else None
    target, seed, profile = config.label.target, config.sampling.seed, store.read_profile(folder)
    by_seed = store.read_seed_measures(folder, increases)
    told: dict[str, Any] = {"readings": readings, "profile": profile, "by_seed": by_seed}
    told["doses"] = store.read_doses(folder)
    report = summarize(increases, choices, measures, target=target, seed=seed, **told)
    changed = [
        f"{words} since the {stage} stage wrote it"
        for stage in ("sample", "score")
        for words in list_changed(stage, info["stages"], folder)
    ]
    warnings = (*report.warnings, *(f"{words}: numbers are of the table as it is now" for words in changed))
    report = tell_found(replace(report, quality=store.read_quality(folder), info=info, warnings=warnings))
    if not (sets and config.off_target):
        return report
    there, lacking = read_sets(folder, config, report, load)
    return replace(join_sets(report, there), warnings=(*report.warnings, *lacking))


def tell_found(report: Report) -> Report:
    """The report with what its run found while it was made: the doctor's checks, and prompts that were left out."""
    found = report.info.get("instrument", {})
    told = {name: float("nan") if value is None else value for name, value in found.get("checks", {}).items()}
    checks = {**report.checks, **told}
    report = replace(report, checks=checks, errors=(*report.errors, *found.get("errors", ())))
    stages = report.info.get("stages", {}).values()
    failed = {prompt: why for made in stages for prompt, why in made.get("failed", {}).items()}
    if not failed:
        return report
    some = "; ".join(failed.values())
    return replace(report, warnings=(*report.warnings, f"{len(failed)} prompts failed and are left out: {some}"))


def check_finished(folder: Path, info: Mapping[str, Any]) -> None:
    """Raise InputError unless completions and scores are whole and follow the configuration that stands beside them."""
    for stage in ("sample", "score"):
        if stage not in info["stages"]:
            raise InputError(
                f"{folder}: the {stage} stage is not finished; `completions-lp run --out {folder}` goes on"
            )
    check_earlier("report", info["config"], info["stages"], folder)


def make_report(folder: str | Path, *, config: Config | None = None) -> Report:
    """The last stage: the numbers of the paper from the stored tables, written beside them.

    Raises:
        InputError: A stage is missing, or ``config`` differs from what an earlier stage has followed.
    """
    folder = Path(folder)
    info = store.read_info(folder)
    if config is not None:
        check_earlier("report", config.model_dump(), info["stages"], folder)
    start = time.perf_counter()
    with store.hold_run(folder):
        return write_report(load(folder), folder, start)


def save(report: Report, folder: str | Path) -> Path:
    """Write a report into a new run directory, with completions and scores, so that ``load`` gives it back.

    Vectors are not part of a report: ``vectors/`` stays empty, and the ``score`` stage cannot be run again from there.

    Args:
        report: Made by ``run``, ``load`` or ``summarize``.
        folder: Of the run directory; made where there is none.

    Returns:
        The folder.

    Raises:
        InputError: The folder is there and not empty, or the report has no completions, read-out or measures behind it.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; a report is saved in a folder of its own: give a new one")
    increases, measures, choices = report.increases, report.measures, report.choices
    read = increases is not None and all(prompt.is_read_out for prompt in increases.completions.prompts)
    drawn = not report.is_undrawn
    if increases is None or (drawn and measures is None) or (read and choices is None):
        raise InputError("this report lacks the completions, the read-out or the measures behind it; save a whole one")
    increases, choices, told = put_back((increases, choices, measures), report.rounding)
    completions = increases.completions
    label = {**completions.labelling.describe(), "target": report.target}
    settings = {"sampling": asdict(completions.sampling), "label": label, "scoring": {"through": increases.through}}
    info = {"files": [], **report.info, "config": {**settings, **report.info.get("config", {})}}
    info["stages"] = {}
    store.start_run(folder, info)
    store.claim_files(folder, info, ["questions.parquet", "completions.parquet", "scores.parquet"])
    store.claim_files(folder, info, ["measures.parquet"] * drawn)
    store.claim_files(folder, info, ["profile.parquet", *["choices.parquet"] * (choices is not None)])
    store.write_completions(folder, completions)
    store.claim_files(folder, info, ["seed_measures.parquet"] * bool(report.by_seed))
    store.claim_files(folder, info, ["readings.parquet"] * (report.readings is not None))
    write_scores(folder, increases, told or measures, report.by_seed, report.profile, report.readings)
    if choices is not None:
        store.write_choices(folder, choices)
    if report.doses:
        store.claim_files(folder, info, ["doses.parquet", "doses.csv"])
        store.write_doses(folder, report.doses, escape=escape_rows)
    for stage in ("sample", "score"):
        info["stages"][stage] = describe_stage(stage, info, folder, consumed={})
    write_report(replace(report, info=info), folder, time.perf_counter())
    return folder


def write_scores(
    folder: Path,
    increases: Increases,
    measures: Measures | None,
    by_seed: Sequence[Measures],
    profile: Sequence[ProfileRow],
    readings: Readings | None,
) -> None:
    """Write the tables of the score stage but for the two-choice read-out."""
    store.write_increases(folder, increases)
    if measures is not None:
        store.write_measures(folder, measures)
    store.write_profile(folder, profile)
    if by_seed:
        store.write_seed_measures(folder, by_seed, increases.completions.sampling.seeds)
    if readings is not None:
        store.write_readings(folder, readings)


def write_report(report: Report, folder: Path, start: float) -> Report:
    """Write everything that is made of a report; all is read before, and what is made is entered last of all."""
    shown = _read_shown(folder, report)
    info: dict[str, Any] = {**report.info, "stages": {**report.info["stages"]}}
    info["stages"].pop("report", None)
    store.claim_files(folder, info, store.STAGES["report"])
    store.write_info(folder, info)
    store.drop_stages(folder, info, ["report"])
    text = format_report(report, title=name_run(info), quality=report.quality)
    store.write_report(folder, report, text, doses=index_doses(report), escape=escape_rows)
    info["timings"] = {**info.get("timings", {}), "report": round(time.perf_counter() - start, 3)}
    info |= {"checks": dict(report.checks), "warnings": list(report.warnings), "errors": list(report.errors)}
    best = {} if report.best is None else asdict(report.best)
    info["best"] = {**best.pop("condition"), **best} if best else None
    report = replace(report, info=info)
    _write_page(folder, report, **shown)
    info["stages"]["report"] = describe_stage("report", info, folder, consumed=hash_sets(report))
    store.write_info(folder, info)
    return report


def draw_figures(
    folder: str | Path, *, names: Sequence[str] = (), tell: Callable[[str], None] = lambda _: None
) -> list[Path]:
    """Draw figures of a run into its ``figures/``: PDF, PNG, the tidy CSV behind it and the caption of each.

    Args:
        folder: The run directory, its report made.
        names: Names of ``figures.GALLERY``; by default all.
        tell: Gets a line for each figure that is left out, and why: what it needs was not scored.

    Returns:
        The PDFs. The table of the main numbers lies beside them as LaTeX, and ``report.html`` is made anew with them.

    Raises:
        InputError: There is no such figure, or a stage is missing.
    """
    from completions_lp.show.figures import GALLERY, check_names, say_skipped  # which import matplotlib

    folder = Path(folder)
    check_names(names)
    with store.hold_run(folder):
        report, drawn = load(folder), []
        validation, info = store.read_validation(folder), dict(report.info)
        report = replace(report, tokens=_read_shown(folder, report)["tokens"])
        for name in names or GALLERY:
            if skipped := say_skipped(name, report):
                tell(skipped)
                continue
            view = GALLERY[name](report, **({"validation": validation} if name == "diagnostics" else {}))
            store.claim_files(folder, info, store.name_files(name))
            drawn.append(view.save(folder / "figures" / name))
        store.claim_files(folder, info, ["figures/table.tex", "report.html"])
        store.write_text(folder / "figures" / "table.tex", format_latex(report))
        _write_page(folder, report, **_read_shown(folder, report))
    return drawn


def _read_shown(folder: Path, report: Report) -> dict[str, Any]:
    """What the page shows beside the report: the figures in ``figures/``, and the increases of single tokens."""
    tokens = report.tokens
    if tokens is None and report.increases is not None:
        tokens = store.read_token_increases(folder, report.increases.completions, report.increases.conditions)
    return {"figures": [Figure(*found) for found in store.read_figures(folder)], "tokens": tokens}


def _write_page(folder: Path, report: Report, **shown: Any) -> None:
    """Write ``report.html``."""
    store.write_text(folder / "report.html", make_page(report, report.info, **shown))
