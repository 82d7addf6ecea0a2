"""The command line. What takes time to import is imported only inside the commands that need it."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from completions_lp import __version__
from completions_lp.cli.compare import compare
from completions_lp.cli.doctor import doctor
from completions_lp.cli.exchange import export_, import_
from completions_lp.cli.imports import import_once
from completions_lp.cli.labels import labels
from completions_lp.cli.notices import speak_plainly
from completions_lp.cli.options import (
    ALL,
    CODES,
    FOLDER,
    OVERRIDES,
    QUIET,
    REMOTE,
    STORE,
    TOKENS,
    Ordered,
    add_stage_options,
    add_workers,
)
from completions_lp.cli.planning import plan
from completions_lp.cli.shares import share, submit
from completions_lp.cli.status import status
from completions_lp.cli.vectors import vectors
from completions_lp.job.signals import end_on_signals

if TYPE_CHECKING:
    from completions_lp.job.config import Config
    from completions_lp.job.stages import Run
    from completions_lp.records import Report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code, see ``CODES``."""
    # Where other programs share the cores, threads that spin while they wait cost a run most of its time (measured:
    # four- to ninefold on two cores); sleeping ones cost it about a tenth on cores of its own. Set it to ACTIVE there.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    asked = list(sys.argv[1:] if arguments is None else arguments)
    signals: list[int] = []
    ranks = _find_ranks()
    if ranks is not None and not ranks.find_rank().leads:
        return int(ranks.follow())
    try:
        with end_on_signals(signals), speak_plainly(_tell):
            return int(commands.main(asked, prog_name="completions-lp", standalone_mode=False, obj=asked) or 0)
    except ValueError as error:
        from completions_lp.records import InputError  # which imports numpy

        if not isinstance(error, InputError):
            raise
        message, code = str(error), 2
    except OSError as error:
        message, code = f"{error.filename or 'a file'}: {error.strerror or error}", 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "completions-lp"
        message, code = f"{error.format_message()} See {command} --help", 2
    except (click.Abort, KeyboardInterrupt) as error:
        message, code = f"stopped{error}", 128 + (signals or [signal.SIGINT])[0]
    except SystemExit as ended:  # the reader of the table went away, as `head` does
        return int(ended.code or 0)
    finally:
        if ranks is not None:
            ranks.dismiss()
    _tell(message)
    return code


def _find_ranks() -> Any:
    """What to do where a launcher has started several processes; None where it has not."""
    if not {"RANK", "WORLD_SIZE"} <= os.environ.keys():
        return None
    from completions_lp.checkpoint import find_rank

    if find_rank().size == 1:
        return None
    from completions_lp.work import ranks

    return ranks


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Where a run is stopped on the way, the message says what is there and how it goes on."""
    try:
        yield
    except KeyboardInterrupt:
        from completions_lp.job.places import tell_rest

        raise click.Abort(tell_rest(folder, click.get_current_context().obj)) from None


@click.group(
    cls=Ordered,
    no_args_is_help=False,
    epilog=CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """How much does a steering vector change the log probs of what a language model would have said anyway?"""


@commands.command()
@click.argument("config", metavar="[CONFIG.toml]", type=Path, required=False)
@click.option("--out", metavar="DIR", type=Path, help="Run directory; a new one under runs/ by default.")
@click.option("--from", "stored", metavar="RUN.json", type=Path, help="Do a stored run again, from its run.json.")
@click.option("--overwrite", is_flag=True, help="Begin afresh where DIR holds a run.")
@REMOTE
@STORE
@OVERRIDES
@add_workers
@TOKENS
@ALL
@QUIET
def run(
    config: Path | None,
    out: Path | None,
    stored: Path | None,
    overwrite: bool,
    remote: str | None,
    place: Sequence[str],
    overrides: Sequence[str],
    everything: bool,
    **flags: bool,
) -> int:
    """The whole job; without a config, on the embedded model.

    What DIR holds already is not done again: a run that was stopped goes on, and one with more prompts, draws, layers,
    multipliers or vectors than before does only these.
    """
    from completions_lp.job.config import find_function
    from completions_lp.job.places import keeps_all, name_folder, open_run, read_expected

    folder = out or name_folder(config)
    overrides = [*overrides, *([f"model.remote={remote}"] if remote else [])]
    opened = open_run(config, folder, [*overrides, *place], stored=stored)
    with _resumable(folder):
        expected = read_expected(stored) if stored and not overrides else {}
        flags["tokens"] |= stored is not None and keeps_all(stored)
        function = find_function(config, overrides)
        whole = _begin(opened, folder, fresh=overwrite, expected=expected, function=function, **flags)
        start = time.perf_counter()
        code = _print_report(opened, whole.all(), everything=everything)
    took = f"{time.perf_counter() - start:.0f} s" if whole.has_worked else "nothing was left to do"
    sent, received = (sum(step.get(name, 0) for step in whole.info["work"].values()) for name in ("sent", "received"))
    if whole.has_worked and sent:
        took += f"; {sent / 1e6:.1f} MB to the server, {received / 1e6:.1f} MB from it"
    click.echo(f"\nRun directory: {folder} ({took})")
    return code


@commands.command()
@click.option("--schema", is_flag=True, help="Print the JSON schema instead, by which an editor completes and checks.")
def config(schema: bool) -> None:
    """Print a configuration to begin with: every key explained."""
    from completions_lp.job.config import format_defaults, make_schema

    click.echo(json.dumps(make_schema(), indent=2) + "\n" if schema else format_defaults(), nl=False)


def _begin(opened: "Config", folder: Path, *, quiet: bool, **options: Any) -> "Run":
    with import_once():
        from completions_lp.job.ledger import Options
        from completions_lp.job.stages import Run

        begun = Run(opened, folder, options=Options(progress=not quiet, tell=_tell, **options))
        _ = begun.tokenizer  # with it transformers imports the better part of itself
    return begun


def _run_stage(stage: str, folder: Path, config: Path | None, overrides: Sequence[str], **flags: bool) -> None:
    from completions_lp.job.config import find_function
    from completions_lp.job.places import open_stage

    opened = open_stage(stage, folder, config, overrides)
    with _resumable(folder):
        begun = _begin(opened, folder, function=find_function(config, overrides), **flags)
        getattr(begun, stage)()
    click.echo(f"{stage}: " + (f"written to {folder}" if begun.has_worked else f"nothing was left to do in {folder}"))


def _check_runs(*folders: Path) -> None:
    from completions_lp.job.places import check_run

    for folder in folders:
        check_run(folder)


@commands.command()
@add_stage_options
@add_workers
def vector(**options: Any) -> None:
    """Make the steering vector and its controls."""
    _run_stage("vector", **options)


@commands.command()
@add_stage_options
@add_workers
def sample(**options: Any) -> None:
    """Draw completions of the unsteered model and label them."""
    _run_stage("sample", **options)


@commands.command()
@add_stage_options
@add_workers
@TOKENS
def score(**options: Any) -> None:
    """Score them under every condition, and read the two choices.

    Through the end of each completion; with --set scoring.through=answer, or window, no further than P(A) and the
    average increase need, in fewer tokens.
    """
    _run_stage("score", **options)


@commands.command()
@add_stage_options
@ALL
def report(folder: Path, config: Path | None, overrides: Sequence[str], everything: bool, quiet: bool) -> int:
    """The numbers of the paper, from the stored tables; needs no model."""
    from completions_lp.job.places import open_stage

    opened = open_stage("report", folder, config, overrides)
    from completions_lp.job.results import make_report

    code = _print_report(opened, make_report(folder, config=opened), everything=everything)
    click.echo(f"report: written to {folder}")
    return code


commands.add_command(status)


@commands.command()
@FOLDER
def clean(folder: Path) -> None:
    """Remove finished units that no table of a run needs any more."""
    _check_runs(folder)
    from completions_lp.job.status import clean_run

    removed, freed = clean_run(folder)
    click.echo(f"{removed} units removed, {freed / 1e6:.1f} MB")


@commands.command()
@FOLDER
@click.option("--only", "names", multiple=True, metavar="NAME", help="This figure, as often as wanted.")
def figures(folder: Path, names: Sequence[str]) -> None:
    """Every figure of a run, with its data; needs no model.

    Draws into DIR/figures: PDF, PNG, the tidy CSV behind each and its caption.
    """
    _check_runs(folder)
    from completions_lp.job.results import draw_figures
    from completions_lp.show.escape import escape_text

    for path in draw_figures(folder, names=names, tell=_tell):
        click.echo(escape_text(str(path)))


commands.add_command(compare)
commands.add_command(export_)
commands.add_command(import_)
commands.add_command(labels)


commands.add_command(plan)
commands.add_command(doctor)
commands.add_command(vectors)
commands.add_command(share)
commands.add_command(submit)


def _tell(text: str) -> None:
    from completions_lp.show.escape import escape_text

    click.echo(f"completions-lp: {escape_text(text)}", err=True)


def _print_report(config: "Config", report: "Report", *, everything: bool = False) -> int:
    """The headline table on stdout, what is wrong with it first; returns the exit code."""
    from completions_lp.show.text import format_overview

    click.echo(format_overview(report, title=f"{config.model.name} on {config.prompts.path}", everything=everything))
    return 3 if report.errors else 0
