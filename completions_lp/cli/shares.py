"""Commands for many machines: a share of a run, and a run as a job array."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from completions_lp.cli.imports import import_once
from completions_lp.cli.options import FOLDER, OVERRIDES, QUIET, STORE


def _tell(text: str) -> None:
    from completions_lp.show.escape import escape_text

    click.echo(f"completions-lp: {escape_text(text)}", err=True)


@click.command()
@FOLDER
@click.argument("config", metavar="[CONFIG.toml]", type=Path, required=False)
@click.option("--part", metavar="K/N", required=True, help="Which share: 0/16 is the first of sixteen.")
@OVERRIDES
@QUIET
def share(folder: Path, config: Path | None, part: str, overrides: Sequence[str], quiet: bool) -> None:
    """Do a share of DIR's run, on this machine, beside others.

    Draws from some of the prompts and scores them, into the units of the run or its store. Makes no tables and takes no
    lock: any number of shares go on at once. `completions-lp vector DIR` comes before; `completions-lp run --out DIR`
    comes after, finds their units and does what is missing.
    """
    from completions_lp.job.config import find_function
    from completions_lp.job.places import check_run, open_run

    check_run(folder)
    opened = open_run(config, folder, overrides)
    with import_once():
        from completions_lp.job.ledger import Options
        from completions_lp.job.share import work_share

    function = find_function(config, overrides)
    options = Options(progress=not quiet, tell=_tell, function=function)
    made = work_share(opened, folder, part, options=options)
    click.echo(f"share {part}: {made} units made" if made else f"share {part}: nothing was left to do")


def _read_time(_context: click.Context, _option: click.Parameter, given: str) -> int:
    """Minutes, of what Slurm takes: 90, 1:30:00, 2-12 or 2-12:00:00."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d\d))?(?::(\d\d))?", given)
    if found is None:
        raise click.BadParameter(f"{given!r} is no time: write minutes, H:MM:SS, or D-HH")
    days, first, second, third = (int(part or 0) for part in found.groups())
    if found[1] is None and found[3] is None:
        return first
    if found[1] is None and found[4] is None:  # MM:SS
        return first + (second > 0)
    return (days * 24 + first) * 60 + second + (third > 0)


def _read_more(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> dict[str, str]:
    wrong = [one for one in given if not re.fullmatch(r"[a-z][a-z_-]*=.+", one)]
    if wrong:
        raise click.BadParameter(f"{wrong[0]!r}: write an option of sbatch as key=value, such as account=me")
    return dict(one.split("=", 1) for one in given)


@click.command()
@click.argument("config", metavar="[CONFIG.toml]", type=Path, required=False)
@click.option("--out", metavar="DIR", type=Path, required=True, help="Run directory, on a file system that all share.")
@click.option("--jobs", metavar="N", type=click.IntRange(1, 100_000), default=8, help="Jobs of the array.")
@click.option("--at-once", metavar="N", type=click.IntRange(min=1), help="How many of them may run at a time.")
@click.option("--partition", metavar="NAME", help="Of the cluster.")
@click.option(
    "--time", "minutes", metavar="TIME", default="1-00", callback=_read_time, help="Of each job, as of sbatch."
)
@click.option("--gpus", metavar="N", type=click.IntRange(min=0), help="Of each job.")
@click.option("--cpus", metavar="N", type=click.IntRange(min=1), help="Of each job.")
@click.option("--mem", "memory", metavar="SIZE", help="Of each job: 64GB.")
@click.option("--slurm", "more", metavar="KEY=VALUE", multiple=True, callback=_read_more, help="Any option of sbatch.")
@click.option("--executor", type=click.Choice(["slurm", "local"]), default="slurm", help="local: on this machine.")
@click.option("--logs", metavar="FOLDER", type=Path, help="Of the jobs' output; DIR-jobs by default.")
@STORE
@OVERRIDES
def submit(
    config: Path | None,
    out: Path,
    jobs: int,
    executor: Any,
    logs: Path | None,
    place: Sequence[str],
    overrides: Sequence[str],
    **resources: Any,
) -> None:
    """The whole job as a Slurm job array.

    A first job makes the vectors, N jobs do a share of the prompts each, a last one makes the tables and the report. A
    job that dies loses the unit at work; the last one does what is missing, and so does the same command again.
    """
    from completions_lp.job.config import EMBEDDED
    from completions_lp.job.places import open_run
    from completions_lp.job.submission import Resources, submit_run

    if config is None and not (out / "run.json").is_file():
        config = EMBEDDED
    opened = open_run(config, out, [*overrides, *place])
    stored = [f"run.store={json.dumps(opened.run.store)}"] if opened.run.store else []
    words = [word for one in (*overrides, *stored) for word in ("--set", one)]
    logs = logs or out.with_name(f"{out.name}-jobs")
    made = submit_run(out, words, config, jobs, Resources(**resources), executor=executor, logs=logs)
    click.echo(f"vector   {made.vector}")
    click.echo(f"shares   {made.shares[0]}" + (f" … {made.shares[-1]} ({jobs} jobs)" if jobs > 1 else ""))
    click.echo(f"report   {made.report}")
    done = "done" if executor == "local" else "submitted"
    click.echo(f"{done}; watch it with: completions-lp status {shlex.quote(str(out))}; logs are in {logs}")
