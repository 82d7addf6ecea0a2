"""The command that plans a run, by a pilot, and checks its estimates."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from completions_lp.cli.options import FOLDER, QUIET


@click.command()
@FOLDER
@click.option("--quantity", metavar="NAME", help="What the interval is of; by default the change of P(A).")
@click.option("--layer", "layers", type=int, multiple=True, metavar="L", help="Only this layer; repeatable.")
@click.option("--multiplier", "multipliers", type=float, multiple=True, metavar="M", help="Only this multiplier.")
@click.option("--half-width", type=float, metavar="W", help="Wanted, in the quantity's unit; half of the pilot's.")
@click.option("--prompts", type=int, metavar="N", help="Tell the cost of N prompts; those needed by default.")
@click.option("--samples", type=int, metavar="S", help="With S samples each; 100 or more by default, the cheapest.")
@click.option("--conditions", type=int, metavar="C", help="Under C conditions; the pilot's by default.")
@click.option("--validate", is_flag=True, help="Draw from the steered model too, and write validation.parquet.")
@click.option("--draws", type=int, default=50, metavar="D", help="For --validate: per prompt and cell.")
@click.option("--function", default="", metavar="MODULE:FUNCTION", help="For --validate: a run's label function.")
@click.option("--shape", "shapes", multiple=True, metavar="MODEL", help="Of 7B, 70B, 405B, a hub name, a folder.")
@click.option("--peak", type=float, metavar="TFLOPS", help="For --shape: of a device at most; 989.")
@click.option("--utilisation", type=float, metavar="SHARE", help="For --shape: of that, what the work gets; 0.3.")
@click.option("--price", type=float, metavar="MONEY", help="For --shape: of a device for an hour; 2.5.")
@QUIET
def plan(folder: Path, validate: bool, quantity: str | None, shapes: Sequence[str], **wanted: Any) -> None:
    """From a pilot run: how many prompts and samples, at what cost.

    Says how many prompts, and how many samples of each, bring the interval of a quantity to a wanted half width, in the
    cells of --layer and --multiplier, by default the report's best one. With --validate: draws from the steered model
    itself in these cells, by default the best and two others, and compares with what the run has estimated. With
    --shape: what a run of --prompts, --samples and --conditions takes with another model, on paper: tokens, FLOPs,
    hours and money, bytes and files.
    """
    from completions_lp.job.places import check_run

    check_run(folder)
    prices = {name: wanted.pop(name) for name in ("peak", "utilisation", "price")}
    chosen = {name: wanted.pop(name) for name in ("draws", "function", "quiet")}
    if shapes:
        from completions_lp.job.growth import predict_run
        from completions_lp.show.text.growth import format_growth

        size = {name: wanted[name] for name in ("prompts", "samples", "conditions")}
        click.echo(format_growth(predict_run(folder, shapes, prices=prices, **size)))
        return
    if validate:
        _validate(folder, **chosen, layers=wanted["layers"], multipliers=wanted["multipliers"])
        return
    from completions_lp.job.results import load
    from completions_lp.plan.forecast import plan_run
    from completions_lp.show.text import format_plan

    pilot = load(folder)
    wanted |= {} if quantity is None else {"quantity": quantity}
    click.echo(format_plan(plan_run(pilot, **wanted), pilot.info))


def _validate(folder: Path, draws: int, quiet: bool, function: str, **cells: Any) -> None:
    from completions_lp.job.ledger import Options
    from completions_lp.job.stages import Run
    from completions_lp.show.text import format_validation

    found = Run.open(folder, options=Options(progress=not quiet, function=function)).validate(draws=draws, **cells)
    click.echo(f"P(A) as estimated, and its share among {draws} draws a prompt of the steered model; means over")
    click.echo("prompts, differences with 95% intervals over prompts")
    click.echo(format_validation(found.measures, found.differences, found.verdicts, found.share))
    click.echo(f"validation.parquet: written to {folder}")
