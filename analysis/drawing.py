"""What the scripts of the figures share: run directories in; a figure, its table and its caption out.

No model and no torch: everything is read from the stored tables. For each figure there are a PDF with embedded fonts, a
PNG, the tidy CSV of the numbers in it, and the caption as text, next to each other. ``completions-lp figures`` draws
the same figures, all at once, into the run directory.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from completions_lp.job.results import load
from completions_lp.records import InputError, Report
from completions_lp.show.figures import GALLERY
from completions_lp.store import read_validation, write_figure

OUT = Path(__file__).parent / "figures"
OPTIONS: dict[str, dict[str, Any]] = {
    "quantity": {"help": "what is drawn, a name of summary.csv"},
    "layer": {"type": int, "help": "which layer (default: the cell chosen on half of the prompts)"},
    "multiplier": {"type": float, "help": "which multiplier (default: as for --layer)"},
    "change": {"action": "store_true", "help": "the log ratio against P(A), with its ceiling"},
}
Make = Callable[[Path, Report, Path], None]
"""What a script does with a run directory, its report, and the folder for its files."""


def draw(name: str, about: str, *options: str) -> None:
    """A script: draw one figure of the gallery for each run directory on the command line."""
    parser = make_parser(about)
    for option in options:
        parser.add_argument(f"--{option}", **OPTIONS[option])
    given = vars(parser.parse_args())
    runs, out = given.pop("runs"), given.pop("out")
    chosen = {key: value for key, value in given.items() if value is not None and value is not False}
    entry = GALLERY[name + "_change" if chosen.pop("change", False) else name]
    stem = next(known for known in GALLERY if GALLERY[known] is entry)

    def make(run: Path, report: Report, folder: Path) -> None:
        read = {"validation": read_validation(run)} if name == "diagnostics" else {}
        figure, table = entry.plot(report, **chosen, **read), entry.tabulate(report, **chosen, **read)
        save(folder, stem, figure, table, entry.caption(report, **chosen, **read))

    for_each_run(runs, out, make)


def make_parser(about: str) -> argparse.ArgumentParser:
    """The arguments of every script: run directories, and where the files go."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the files; of several runs, one folder each")
    return parser


def for_each_run(runs: Sequence[Path], out: Path, make: Make) -> None:
    """Do what a script does for each run; input that is wrong ends the script with exit code 2."""
    try:
        names = [run.resolve().name for run in runs]
        if len(set(names)) < len(names):
            raise InputError(
                f"run directories of the same name: {', '.join(names)}; their figures would be overwritten"
            )
        for run, name in zip(runs, names, strict=True):
            make(run, load(run), out if len(runs) == 1 else out / name)
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


def save(folder: Path, name: str, figure: Figure, table: Sequence[Mapping[str, Any]], caption: str) -> None:
    """Write NAME.pdf, .png, .csv and .txt; the PNG in 256 colours, at less than half the size."""
    path = write_figure(folder, name, figure, table, caption)
    with Image.open(path.with_suffix(".png")) as image:
        small = image.convert("RGB").quantize(256)
    small.save(path.with_suffix(".png"), optimize=True)
    print(path)
