"""The main numbers as a LaTeX table (booktabs), a line per layer and multiplier, with intervals.

python analysis/table.py RUN_DIR [RUN_DIR ...] [--quantities delta_p_A log_ratio_A] [--out DIR]
"""

from pathlib import Path

from drawing import for_each_run, make_parser

from completions_lp.records import Report
from completions_lp.show.text.latex import QUANTITIES, format_latex


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--quantities", nargs="+", default=QUANTITIES, help="columns, names of summary.csv")
    given = parser.parse_args()

    def make(_: Path, report: Report, folder: Path) -> None:
        text = format_latex(report, given.quantities)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "table.tex").write_text(text, encoding="utf-8")
        print(folder / "table.tex")

    for_each_run(given.runs, given.out, make)


if __name__ == "__main__":
    main()
