"""The run directory: ``run.json``, and which stage writes which file."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from completions_lp.records import InputError, read_text
from completions_lp.store.drawings import drop_figures
from completions_lp.store.files import replace_file, to_plain
from completions_lp.store.info import SCHEMA_VERSION, parse_info

STAGES = {
    "vector": (),
    "sample": ("questions.parquet", "completions.parquet"),
    "score": (
        *("scores.parquet", "measures.parquet", "profile.parquet"),
        *("tokens.parquet", "steered.parquet", "choices.parquet", "validation.parquet"),
    ),
    "report": (
        *("prompts.parquet", "summary.parquet", "summary.csv", "slopes.parquet", "slopes.csv"),
        *("report.md", "report.html"),
    ),
}
"""Files that each stage writes; the vector stage has a folder of its own, ``vectors/``."""


def start_run(folder: Path, info: Mapping[str, Any]) -> None:
    """Make the run directory and its ``run.json``; raises InputError where no directory can be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made a run directory: {error.strerror}") from None
    write_info(folder, info)


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write ``run.json``; NaN, which JSON does not know, becomes null."""
    plain = {"schema_version": SCHEMA_VERSION, **to_plain(info)}
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    replace_file(folder / "run.json", lambda path: path.write_text(text + "\n", encoding="utf-8"))


def read_info(folder: Path) -> dict[str, Any]:
    """Read ``run.json``; raises InputError where there is none, or one that no run of this schema has written."""
    path = folder / "run.json"
    if not os.path.exists(path):  # noqa: PTH110  which raises for no name
        raise InputError(f"{folder}: not a run directory (no run.json)")
    return parse_info(path, read_text(path))


def drop_stages(folder: Path, stages: Sequence[str]) -> list[str]:
    """Remove what these stages wrote, so that no stale table is ever read; returns the names of the files."""
    dropped = [name for stage in stages for name in STAGES[stage] if (folder / name).is_file()]
    for name in dropped:
        (folder / name).unlink()
    if "score" in stages:  # a report from the same scores has the same figures
        drop_figures(folder)
    return dropped
