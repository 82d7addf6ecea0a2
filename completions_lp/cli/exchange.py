"""The commands that take a run's results to other tools, and theirs here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from completions_lp.cli.options import ALL, FOLDER


@click.command("export")
@FOLDER
@click.option("--format", "name", required=True, metavar="NAME", help="caa or lm-eval.")
@click.option(
    "--out", metavar="FOLDER", type=Path, required=True, help="Where the files go; nothing is replaced there."
)
@click.option(
    "--name", "called", default="", metavar="NAME", help="CAA's behaviour, lm-eval's task; the prompts' file."
)
@click.option("--model-size", default="7b", metavar="SIZE", help="What CAA's plots look for in its files' names.")
@click.option("--vector", default="", metavar="NAME", help="Whose cells, where a run has several vectors.")
@click.option("--positions", metavar="WHERE", help="At which positions, where a run has several.")
def export_(folder: Path, name: str, out: Path, called: str, **told: Any) -> None:
    """Write the two-choice read-out for another tool; needs no model.

    caa: CAA's result JSON per layer and multiplier, for its plots. lm-eval: samples as lm-evaluation-harness logs them,
    a JSONL file per cell. A file that is there and differs is not replaced.
    """
    from completions_lp.job.places import check_run

    check_run(folder)
    from completions_lp.job.exports import Told, count_folders, export_results
    from completions_lp.show.escape import escape_text

    paths, notes = export_results(folder, name, out, Told(name=called, **told))
    for note in notes:
        click.echo(escape_text(note))
    for place, n in count_folders(paths).items():
        click.echo(f"{n} files in {escape_text(str(place))}")


@click.command("import")
@click.argument("folder", metavar="FOLDER", type=Path)
@click.option("--out", metavar="DIR", type=Path, required=True, help="The new run directory.")
@click.option("--only", "only", multiple=True, metavar="KEY=VALUE", help="A setting of the files' names, repeatable.")
@click.option("--name", "called", default="", metavar="NAME", help="What the vector is called; the behaviour.")
@ALL
def import_(folder: Path, out: Path, only: Sequence[str], called: str, everything: bool) -> int:
    """Make a run directory of CAA's result files; needs no model.

    FOLDER has results_layer=..._multiplier=..._type=ab_....json. Of several settings one is chosen with --only
    model_size=7b; --only system_prompt=none takes the files without one. Figures and comparisons are then made as of
    any run, as far as two-choice quantities go.
    """
    from completions_lp.job.foreign import import_results
    from completions_lp.job.results import load, save
    from completions_lp.show.escape import escape_text
    from completions_lp.show.text import format_overview

    wrong = [text for text in only if not all(text.partition("="))]
    if wrong:
        raise click.UsageError(f"--only {wrong[0]!r} is no KEY=VALUE, such as model_size=7b.")
    report = import_results(folder, only={t.partition("=")[0]: t.partition("=")[2] for t in only}, name=called)
    save(report, out)
    report = load(out)
    click.echo(format_overview(report, title=f"CAA's results in {escape_text(str(folder))}", everything=everything))
    click.echo(f"\nRun directory: {escape_text(str(out))}")
    return 3 if report.errors else 0
