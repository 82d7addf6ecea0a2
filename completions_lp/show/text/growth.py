"""What runs take with models of other shapes -> text for the terminal, and rows of a table in Markdown."""

from collections.abc import Sequence

from completions_lp.plan.growth import Growth
from completions_lp.show.escape import printable
from completions_lp.show.text.plan import format_count, format_time
from completions_lp.show.text.tables import Column, draw_table, wrap_text


def format_growth(found: Sequence[Growth], *, width: int | None = None) -> str:
    """A line for each model, and what the numbers stand on."""
    first = found[0]
    size = f"{first.prompts} prompts x {first.samples} samples x {first.conditions} conditions"
    told = (
        "On paper: prompts and completions as long as the pilot's, and sharing as much; hours are those of all devices "
        "together. Traffic is to and from a store. Straggler: the longest unit, while other workers may "
        "have to wait. Tables: memory of one process that makes those of all conditions at once."
    )
    columns = [
        Column(name, tuple(values))
        for name, values in zip(HEAD, zip(*map(list_cells, found), strict=True), strict=True)
    ]
    return "\n".join([size, draw_table(columns, width=width), wrap_text(told, width=width)])


HEAD = ("model", "tokens", "FLOPs", "GPUs", "GPU hours", "money", "store", "traffic", "files", "straggler", "tables")
"""What ``list_cells`` has."""


def list_cells(growth: Growth) -> tuple[str, ...]:
    """The cells of a line: the model, tokens through the network, and so on."""
    return (
        printable(growth.weights.name),
        format_count(sum(growth.tokens.values())),
        f"{growth.flops:.2g}",
        str(growth.devices),
        format_count(growth.hours) if growth.hours >= 10 else f"{growth.hours:.2g}",
        format_count(growth.money) if growth.money >= 10 else f"{growth.money:.2g}",
        format_bytes(growth.stored),
        format_bytes(growth.traffic),
        format_count(growth.files),
        format_time(growth.straggler),
        format_bytes(growth.tables),
    )


def format_bytes(size: float) -> str:
    """``12 MB``, ``3.4 GB``, ``1.2 TB``."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size / 1e3:.3g} kB"
