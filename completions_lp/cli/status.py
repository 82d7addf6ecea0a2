"""The command that says what a run directory holds, and what is at work there."""

from collections.abc import Sequence
from pathlib import Path

import click

from completions_lp.cli.options import FOLDER, OVERRIDES


@click.command()
@FOLDER
@click.argument("config", metavar="[CONFIG.toml]", type=Path, required=False)
@OVERRIDES
def status(folder: Path, config: Path | None, overrides: Sequence[str]) -> None:
    """What DIR holds, what is stale and why, what a run (of CONFIG) would do; needs no model.

    While a run is at work there, also what it is at: how much is done, and when it might end.
    """
    from completions_lp.job.places import check_run, open_run
    from completions_lp.job.status import find_status, measure_store, measure_units
    from completions_lp.show.text.status import format_status
    from completions_lp.store import is_held, read_progress

    check_run(folder)
    asked = open_run(config, folder, overrides) if config or overrides else None
    held = is_held(folder)
    progress = read_progress(folder) if held else None  # what a killed one left is of no use
    found = find_status(folder, asked), *measure_units(folder)
    click.echo(format_status(*found, held=held, shared=measure_store(folder), progress=progress))
