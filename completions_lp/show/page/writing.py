"""A run directory -> ``report.html``."""

from pathlib import Path

from completions_lp.records import InputError
from completions_lp.show.page.document import fill_template, gather_figures
from completions_lp.show.page.packing import pack_run
from completions_lp.show.page.reading import read_run
from completions_lp.store.files import replace_file

LIMIT = 40_000_000
"""Bytes that a page takes at most, by default."""


def write_page(folder: str | Path, *, sentence: str | None = None, limit: int = LIMIT) -> Path:
    """Write ``report.html`` into a run directory, from its tables alone; needs no model.

    The page opens from disk and reaches for nothing outside itself. Figures that lie in ``figures/`` as PNG are part of
    it, in the order of their names, as long as they take no more than a quarter of ``limit``. What does not fit is left
    out in this order, and the page says so: token colours under controls, the completions under controls, prompts (a
    random subset by the run's seed stays).

    Args:
        folder: The run directory; needs ``run.json``, ``questions``, ``completions``, ``scores``, ``prompts`` and
            ``summary.parquet``. Where there is a ``tokens.parquet``, tokens are coloured under its conditions.
        sentence: The headline; the one of ``report.md`` by default.
        limit: Bytes that the file takes at most.

    Returns:
        The path of the page.

    Raises:
        InputError: The directory holds no run, or lacks one of these tables.
    """
    folder = Path(folder)
    if limit < 1_000_000:
        raise InputError(f"a page of at most {limit} bytes holds no run; give it at least 1000000")
    data = read_run(folder)
    figures = gather_figures(folder, limit // 4)
    frame = fill_template(data, figures, None, sentence=sentence or data.sentence)
    packed = pack_run(data, limit - len(frame.encode()) - 10_000)
    page = fill_template(data, figures, packed, sentence=sentence or data.sentence)
    path = folder / "report.html"
    replace_file(path, lambda partial: partial.write_text(page, encoding="utf-8"))
    return path
