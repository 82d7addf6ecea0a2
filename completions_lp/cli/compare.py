"""The command that sets runs side by side."""

from collections.abc import Sequence
from pathlib import Path

import click

from completions_lp.cli.options import ALL


@click.command()
@click.argument("folders", metavar="DIR...", type=Path, nargs=-1, required=True)
@click.option("--quantity", "quantities", multiple=True, metavar="NAME", help="A per-prompt quantity, repeatable.")
@click.option("--csv", metavar="FILE", type=Path, help="Also write the tidy rows.")
@ALL
def compare(folders: Sequence[Path], quantities: Sequence[str], csv: Path | None, everything: bool) -> None:
    """Runs side by side, with intervals; needs no model.

    Compares runs (models, vectors, prompt sets) with the first one: the best cell of each, then every cell that both
    have. Paired by prompt where prompts are shared.
    """
    from completions_lp.job.places import check_run

    for folder in folders:
        check_run(folder)
    from completions_lp.job.results import load
    from completions_lp.report.comparison import QUANTITIES, compare_reports
    from completions_lp.show.escape import escape_rows, escape_text
    from completions_lp.show.text import format_comparison, tabulate_comparison
    from completions_lp.store import write_rows

    reports = {str(folder): load(folder) for folder in folders}
    differences = compare_reports(reports, quantities=quantities or QUANTITIES)
    click.echo(f"Compared with {escape_text(str(folders[0]))}; intervals {differences[0].difference.level:.0%}")
    targets = {name: report.target for name, report in reports.items()}
    through = {name: report.through for name, report in reports.items()}
    click.echo(format_comparison(differences, targets=targets, through=through, everything=everything))
    if csv:
        write_rows(csv, escape_rows(tabulate_comparison(differences)))
