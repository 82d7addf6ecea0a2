"""Figure -> ``figures/NAME``: PDF, PNG, the tidy CSV behind it, and its caption."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from completions_lp.records import read_bytes, read_text
from completions_lp.store.directory import list_files
from completions_lp.store.files import make_folder, replace_file, write_rows, write_text

DPI = 200
SUFFIXES = (".pdf", ".png", ".csv", ".txt")


def write_figure(folder: Path, name: str, figure: Any, rows: Sequence[Mapping[str, Any]], caption: str) -> Path:
    """Write a figure as NAME.pdf (returned), .png, .csv (rows) and .txt (caption); equal numbers give equal bytes."""
    stem = folder / name
    make_folder(folder)
    for suffix, hidden in ((".pdf", "CreationDate"), (".png", "Software")):
        with replace_file(stem.with_suffix(suffix)) as file:
            figure.savefig(file, format=suffix[1:], dpi=DPI, metadata={hidden: None})
    write_rows(stem.with_suffix(".csv"), rows)
    write_text(stem.with_suffix(".txt"), caption + "\n")
    return stem.with_suffix(".pdf")


def name_files(name: str) -> list[str]:
    """The names of a figure's files within the run directory."""
    return [f"figures/{name}{suffix}" for suffix in SUFFIXES]


def read_figures(folder: Path) -> list[tuple[str, str, bytes]]:
    """The figures that a run has drawn, in the order of their names: name, caption and PNG."""
    paths = [path for path in list_files(folder, "figures") if path.suffix == ".png"]
    captions = [path.with_suffix(".txt") for path in paths]
    return [
        (path.stem, read_text(caption).strip() if caption.is_file() else "", read_bytes(path))
        for path, caption in zip(paths, captions, strict=True)
    ]
