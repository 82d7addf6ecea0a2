"""Options and arguments that several commands share."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

FOLDER = click.argument("folder", metavar="DIR", type=Path)
CONFIG = click.option("--config", metavar="CONFIG.toml", type=Path, help="What to run; DIR's own by default.")
OVERRIDES = click.option(
    "--set",
    "overrides",
    metavar="SECTION.KEY=VALUE",
    multiple=True,
    help="Override a key of the configuration, as often as wanted: --set sampling.n=50 --set scoring.layers=[3,4]",
)
CODES = (
    "Exit codes: 0 done, 2 the input is wrong, 3 the report is written and has an ERROR, 130 or 143 stopped by a "
    "signal (what is finished is kept), 1 anything else."
)
REMOTE = click.option(
    "--remote",
    metavar="[URL]",
    is_flag=False,
    flag_value="true",
    help="Run the model on NDIF, or on the server at URL: the same as --set model.remote=...",
)
ALL = click.option("--all", "everything", is_flag=True, help="Every line of the table, not the first dozen alone.")
WORKERS = click.option(
    "--workers", type=int, metavar="N", help="As --set run.workers=N: processes side by side, by Ray."
)
ADDRESS = click.option(
    "--address", metavar="HOST:PORT", help="As --set run.address=...: a Ray cluster to join, or auto."
)
QUIET = click.option("--quiet", is_flag=True, help="No progress bars.")
TOKENS = click.option("--tokens", is_flag=True, help="Keep every condition in tokens.parquet, not only a few.")


def _name_store(_context: click.Context, _option: click.Parameter, given: str | None) -> list[str]:
    """The override that names a store; a path is one from where the command is given."""
    if given is None:
        return []
    return [f"run.store={json.dumps(given if '://' in given else str(Path(given).expanduser().absolute()))}"]


STORE = click.option(
    "--store",
    "place",
    metavar="URL",
    callback=_name_store,
    help="Where finished units go that runs and machines share: a folder, s3://BUCKET/PLACE, gs://BUCKET/PLACE.",
)


class Ordered(click.Group):
    """A group whose commands are listed in the order in which they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the source."""
        return list(self.commands)


def add_stage_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every stage takes: the run directory, a configuration, overrides, silence."""
    for add in (QUIET, OVERRIDES, CONFIG, FOLDER):
        command = add(command)
    return command


def add_workers(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command takes that computes: how many processes, and where; they come as overrides."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, workers: int | None, address: str | None, **options: Any) -> Any:
        asked = {"workers": workers, "address": address}
        told = [f"run.{key}={json.dumps(value)}" for key, value in asked.items() if value is not None]
        return command(*arguments, **{**options, "overrides": (*options["overrides"], *told)})

    return WORKERS(ADDRESS(wrapped))
