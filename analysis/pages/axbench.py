"""Does a prompt beat the steering vector? AxBench's question (Wu et al. 2025, arXiv 2501.17148) on the four studies.

Each study has a rival: a system prompt that asks for the behaviour. It is scored on the same completions as the vector
and asked the same two-choice questions, so that the two are compared prompt by prompt.

    python analysis/pages/axbench.py STUDY_DIR
"""

import sys
from pathlib import Path

import numpy as np
from blocks import make_table, show_interval, write_block
from studies import (
    BLUE,
    RED,
    average,
    in_style,
    load_studies,
    number_clusters,
    save_figure,
    say_behaviour,
    start_figure,
)

import completions_lp as clp
from completions_lp.records import Condition

PAGE = "axbench"
EFFECT, CHOICE, DAMAGE = "delta_p_A", "logit_diff_change", "increase_all"


def share_wins(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """By prompt: 1 where the first is larger, 1/2 where they are equal, else 0; NaN where either is undefined."""
    wins = np.where(first > second, 1.0, np.where(first == second, 0.5, 0.0))
    return np.where(np.isfinite(first) & np.isfinite(second), wins, np.nan)


def pick_column(report: clp.Report, name: str, condition: Condition | None = None) -> np.ndarray:
    """A column of the per-prompt table: its rows of one condition, by default of the best cell."""
    columns, condition = report.prompts, condition or report.best.condition  # type: ignore[union-attr]
    there = (columns["vector"] == condition.vector) & (columns["kind"] == condition.kind)
    there &= (columns["layer"] == condition.layer) & np.isclose(columns["multiplier"], condition.multiplier)
    return np.asarray(columns[name][there])


def compare(name: str, report: clp.Report) -> tuple[list[list[str]], list[dict[str, object]], np.ndarray]:
    """Rows of the table and of the figure for one behaviour, and on which questions the prompt wins."""
    if report.best is None or not report.rivals:
        raise SystemExit(f"{name}: its run has no best cell or no rival; it is made by analysis/study/{name}.toml")
    cell = report.best.condition
    found = {(row.quantity, row.split): row for row in report.rivals if row.condition == cell}
    rows, drawn = [], []
    for quantity, digits in ((EFFECT, 1), (CHOICE, 3), (DAMAGE, 2)):
        row = found[quantity, "report" if (quantity, "report") in found else "all"]
        ends = [
            (e.value, *(np.nan if x is None else x for x in (e.low, e.high)))
            for e in (row.steered, row.rivalled, row.difference)
        ]
        rows.append([say_behaviour(name), LABELS[quantity], *(show_interval(*e, digits) for e in ends)])
        if quantity == EFFECT:
            drawn = [
                {"behaviour": name, "who": who, "value": e[0], "low": e[1], "high": e[2]}
                for who, e in zip(("vector", "system prompt"), ends, strict=False)
            ]
    rival = next(row.rival for row in report.rivals)
    return rows, drawn, share_wins(pick_column(report, EFFECT, rival), pick_column(report, EFFECT))


CAPTION = (
    "Change of the probability that the matching answer is given, under the vector at its best cell and under a system "
    "prompt that asks for the behaviour; on the questions that had no say in the choice of the cell. Bars are 95 % "
    "intervals over topics."
)
LABELS = {EFFECT: "ΔP(matching), pp", CHOICE: "two-choice log odds, nats", DAMAGE: "all completions, nats"}


@in_style
def draw(drawn: list[dict[str, object]]) -> None:
    """A line for each behaviour: the vector's effect and the prompt's."""
    names = list(dict.fromkeys(str(row["behaviour"]) for row in drawn))
    figure = start_figure(0.9 + 0.42 * len(names))
    panel = figure.subplots()
    for who, colour, shift, mark in (("vector", BLUE, 0.13, "o"), ("system prompt", RED, -0.13, "s")):
        rows = [row for row in drawn if row["who"] == who]
        value, low, high = (np.array([row[key] for row in rows], dtype=float) for key in ("value", "low", "high"))
        at = -np.arange(len(rows)) + shift
        panel.errorbar(
            value, at, xerr=[value - low, high - value], fmt=mark, color=colour, markersize=4, linewidth=1, label=who
        )
    panel.axvline(0, color="0.6", linewidth=0.7, zorder=0)
    panel.set_yticks(-np.arange(len(names)), [say_behaviour(name) for name in names])
    panel.set_xlabel("change of P(matching answer), percentage points")
    panel.set_title("Does a prompt beat the vector?", loc="left", fontsize=8)
    panel.set_ylim(-len(names) + 0.5, 0.5)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, PAGE, drawn, CAPTION)


def is_clear(report: clp.Report) -> bool:
    """Whether the prompt moves P(matching) further than the best cell, beyond the interval of the difference."""
    cell = report.best.condition if report.best else None
    found = {row.split: row.difference.high for row in report.rivals if (row.condition, row.quantity) == (cell, EFFECT)}
    high = found.get("report", found["all"])
    return high is not None and high < 0


def word(drawn: list[dict[str, object]], wins: dict[str, np.ndarray], clusters: np.ndarray, clear: int) -> str:
    """What was found, in words."""
    value = {(row["behaviour"], row["who"]): row["value"] for row in drawn}
    ahead = [name for name in wins if value[name, "system prompt"] > value[name, "vector"]]  # type: ignore[operator]
    mean, low, high = (100 * x for x in average(np.concatenate([*wins.values()]), clusters))
    each = ", ".join(f"{say_behaviour(name)} {100 * np.nanmean(won):.0f} %" for name, won in wins.items())
    return (
        f"The prompt moves P(matching) further than the vector does in {len(ahead)} of {len(wins)} behaviours; in "
        f"{clear} of them the interval of the difference leaves out zero. Question by question the prompt wins on "
        f"{mean:.0f} % [{low:.0f}, {high:.0f}] ({each})."
    )


def main(folder: Path) -> None:
    """Write the blocks and the figure."""
    reports = load_studies(folder)
    table, drawn, wins, topics = [], [], {}, []
    for name, report in reports.items():
        rows, some, wins[name] = compare(name, report)
        table += rows
        drawn += some
        topics += [f"{name} {topic}" for topic in pick_column(report, "cluster")]
    columns = ["behaviour", "change of", "vector", "system prompt", "vector less prompt"]
    write_block(PAGE, "table", make_table(columns, table))
    clear = sum(map(is_clear, reports.values()))
    write_block(PAGE, "findings", word(drawn, wins, number_clusters(topics), clear))
    draw(drawn)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
