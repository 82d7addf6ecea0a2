"""The command that checks whether everything is computed right."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from completions_lp.cli.options import OVERRIDES


@click.command()
@click.argument("config", metavar="[CONFIG.toml|DIR]", type=Path, required=False)
@click.option("--model", "name", metavar="NAME_OR_PATH", help="As --set model.name=...: hub name or local path.")
@click.option("--revision", help="Hub branch, tag or commit.")
@click.option("--dtype", help="auto, float32, bfloat16, float16 or float64.")
@click.option("--device", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--residual", help="float32, or weights: half precision throughout.")
@OVERRIDES
@click.option("--all", "everything", is_flag=True, help="Also what each check has seen, and other precisions.")
def doctor(config: Path | None, overrides: Sequence[str], everything: bool, **model: str | None) -> int:
    """Is everything computed right, on your own model, vector and prompts?

    Takes what run takes: a configuration, or DIR for that of a run; without one, the embedded model, pairs and prompts.
    A few of the prompts are scored in every way that must give the same, and compared with plain full passes. Says what
    passes, what fails, and what to do; exits with 1 where a check fails.
    """
    from completions_lp.job.places import open_examined

    named = [f"model.{key}={json.dumps(value)}" for key, value in model.items() if value is not None]
    opened = open_examined(config, [*named, *overrides])
    from completions_lp.cli.imports import import_once

    with import_once():
        from completions_lp.doctor import format_diagnosis
        from completions_lp.job.checkup import examine
    began: list[float] = []

    def begin(_: Any) -> None:
        began.append(time.perf_counter())

    diagnosis = examine(opened, compare=everything, tell=begin)
    click.echo(format_diagnosis(diagnosis, everything=everything))
    click.echo(f"({time.perf_counter() - began[0]:.0f} s beyond loading)")
    return 1 if diagnosis.failed else 0
