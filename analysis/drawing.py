"""What the scripts of the figures share: run directories in; a figure, its table and its caption out.

No model and no torch: everything is read from the stored tables. For each figure there are a PDF with embedded fonts, a
PNG, the tidy CSV of the numbers in it, and the caption as text, next to each other.
"""

import argparse
import csv
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from completions_lp.figures import GALLERY
from completions_lp.records import InputError, Report
from completions_lp.results import load_report

OUT = Path(__file__).parent / "figures"
DPI = 200
OPTIONS: dict[str, dict[str, Any]] = {
    "quantity": {"help": "what is drawn, a name of summary.csv"},
    "layer": {"type": int, "help": "which layer (default: the cell chosen on half of the prompts)"},
    "multiplier": {"type": float, "help": "which multiplier (default: as for --layer)"},
    "change": {"action": "store_true", "help": "the log ratio against P(A), with its ceiling"},
    "validation": {"type": Path, "help": "the table that validation.py makes"},
}


def draw(name: str, about: str, *options: str) -> None:
    """A script: draw one figure of the gallery for each run directory on the command line."""
    parser = make_parser(about)
    for option in options:
        parser.add_argument(f"--{option}", **OPTIONS[option])
    given = vars(parser.parse_args())
    runs, out = given.pop("runs"), given.pop("out")
    chosen = {key: value for key, value in given.items() if value is not None and value is not False}
    if "validation" in chosen:
        chosen["validation"] = read_csv(chosen["validation"])
    stem = name + "_change" if chosen.pop("change", False) else name

    def make(report: Report, folder: Path) -> None:
        entry = GALLERY[stem]
        figure, table = entry.plot(report, **chosen), entry.tabulate(report, **chosen)
        save(folder / stem, figure, table, entry.caption(report, **chosen))

    for_each_run(runs, out, make)


def make_parser(about: str) -> argparse.ArgumentParser:
    """The arguments of every script: run directories, and where the files go."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the files; of several runs, one folder each")
    return parser


def for_each_run(runs: Sequence[Path], out: Path, make: Any) -> None:
    """Call ``make(report, folder)`` for each run; input that is wrong ends the script with exit code 2."""
    try:
        names = [run.resolve().name for run in runs]
        if len(set(names)) < len(names):
            raise InputError(
                f"run directories of the same name: {', '.join(names)}; their figures would be overwritten"
            )
        for run, name in zip(runs, names, strict=True):
            make(load_report(run), out if len(runs) == 1 else out / name)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def save(stem: Path, figure: Figure, table: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Write STEM.pdf, .png, .csv and .txt; the same numbers give the same bytes."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None})
    figure.savefig(stem.with_suffix(".png"), dpi=DPI, metadata={"Software": None})
    write_csv(stem.with_suffix(".csv"), table)
    stem.with_suffix(".txt").write_text(caption + "\n", encoding="utf-8")
    print(stem.with_suffix(".pdf"))


def write_csv(path: Path, table: Sequence[Mapping[str, Any]]) -> None:
    """Tidy rows as a CSV file; what is missing or undefined is empty."""
    names = list(dict.fromkeys(name for row in table for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([_show(row.get(name)) for name in names] for row in table)


def read_csv(path: Path) -> list[dict[str, Any]]:
    """Tidy rows, with numbers where a cell is one."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: _parse(text) for name, text in row.items()} for row in csv.DictReader(file)]


def _show(value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{float(value):.6g}" if isinstance(value, float) else value


def _parse(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
