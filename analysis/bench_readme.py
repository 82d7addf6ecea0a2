"""The benchmark's table for a GPU, written into analysis/README.md between two marks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_table import Row

BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"
"""Between these stands what ``fill_readme`` has written last."""
PEERS = ("naive HF loop", "ours", "floor")


def format_rows(machine: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """What was measured on what, and the table in Markdown: the naive loop, ours and the floor."""
    versions = f"torch {machine['torch']}, transformers {machine['transformers']}"
    lines = [
        f"Measured on {machine['device']} in {machine['dtype']}, {machine['date'][:10]}, {versions}; seconds per "
        "prompt, medians of interleaved rounds.",
        "",
        "| model, nats/token | | naive, s | ours, s | x naive | x floor | passes |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    ours = [row for row in rows if row.who == "ours" and row.stage != "choices"]
    for row in ours:
        same = [one for one in rows if (one.model, one.entropy, one.stage) == (row.model, row.entropy, row.stage)]
        naive = next((one.seconds for one in same if one.who == PEERS[0]), None)
        values = [naive, row.seconds, row.vs_naive, row.of_floor, row.passes]
        cells = ["" if value is None else f"{value:.3g}" for value in values]
        lines.append(f"| {row.model}, {row.entropy:.2f} | {row.stage} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fill_readme(path: Path, machine: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Put the table between the marks of a file; what stood there goes.

    Raises:
        SystemExit: The file has no such marks, in this order.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path}: no {BEGIN} and {END}, between which the table goes")
    path.write_text(f"{before}{BEGIN}\n{format_rows(machine, rows)}\n{END}{after}", encoding="utf-8")
