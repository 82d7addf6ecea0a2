"""The command that audits labels."""

from collections.abc import Sequence
from pathlib import Path

import click

from completions_lp.cli.options import ALL, FOLDER, OVERRIDES


@click.command()
@FOLDER
@OVERRIDES
@click.option("--examples", type=click.IntRange(0), default=3, metavar="N", help="Completions to show of each pair.")
@click.option("--csv", metavar="FILE", type=Path, help="Also write the tidy rows.")
@ALL
def labels(folder: Path, overrides: Sequence[str], examples: int, csv: Path | None, everything: bool) -> None:
    """What other label rules would call the completions of a run; needs no model.

    How many each rule calls which answer, where rules disagree, and how far the average increase and the change of P(A)
    move. With --set label.rule=..., and further keys of [label], a rule of your own joins them.
    """
    from completions_lp.job.places import check_run, open_rule

    check_run(folder)
    asked = open_rule(folder, overrides)
    from completions_lp.job.audit import audit_labels, name_asked
    from completions_lp.show.escape import escape_rows
    from completions_lp.show.text.labels import format_labels
    from completions_lp.store import write_rows

    audit = audit_labels(folder, rules={} if asked is None else {name_asked(asked): asked}, examples=examples)
    click.echo(format_labels(audit, everything=everything))
    if csv:
        write_rows(csv, escape_rows(audit.rows))
