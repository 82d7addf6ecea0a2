"""Does steering promote a behaviour or suppress its opposite? Pres et al. 2024 (arXiv 2410.17245) on the four studies.

How much likelier, or less likely, the steered model finds completions that show the behaviour and such that do not; of
all of them, and of those that were the least and the most likely before. They are the unsteered model's own, in place
of a larger model's.

    python analysis/pages/pres.py STUDY_DIR
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from blocks import make_table, show, show_interval, write_block
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

PAGE = "pres"
PARTS = ("all", "bottom quartile", "top quartile")
SIDES = ("matching", "not matching")
APART = "matching less not"
CAPTION = (
    "Change of the log likelihood of the unsteered model's own completions under the vector at its best cell, by "
    "behaviour: of those that gave the matching answer and of those that gave the other, of all draws and of the "
    "quartiles that were the least (bottom) and the most likely (top) before. Bars are 95 % intervals over topics."
)
UNIT = 1000
"""Changes are told in thousandths of a nat per token."""


def cut_quartiles(baseline: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The quartile, 0 to 3, of each completion's log likelihood per token, where each draw counts once.

    A completion is where the middle of its draws is, so that equal draws are never parted.
    """
    order = np.argsort(baseline, kind="stable")
    middle = np.cumsum(counts[order]) - counts[order] / 2
    found = np.empty(len(baseline), dtype=int)
    found[order] = np.minimum((4 * middle / counts.sum()).astype(int), 3)
    return found


def average_prompts(values: np.ndarray, counts: np.ndarray, prompts: np.ndarray, n_prompts: int) -> np.ndarray:
    """Each prompt's mean over its draws; NaN of a prompt that has none."""
    total = np.bincount(prompts, counts, minlength=n_prompts)
    sums = np.bincount(prompts, counts * values, minlength=n_prompts)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, sums / np.where(total > 0, total, 1), np.nan)


def list_conditions(report: clp.Report) -> dict[str, Condition]:
    """The vector at its best cell, a random direction and the negated vector at the same cost there, and the prompt."""
    if report.best is None or report.increases is None:
        raise SystemExit("a run without a best cell: it has no completion with the matching answer")
    cell = report.best.condition
    kinds = {"random": "random direction", "negated": "vector, negated", "rival": "system prompt"}
    found = {"vector": cell}
    for condition in report.increases.conditions:
        there = condition.kind == "rival" or (condition.layers, condition.dose) == (cell.layers, cell.dose)
        if there and condition.kind in kinds:
            found.setdefault(kinds[condition.kind], condition)
    return found


def measure(report: clp.Report, condition: Condition) -> dict[tuple[str, str], tuple[float, float, float]]:
    """By side and part: the mean change of log likelihood per token, with its interval over prompts."""
    increases = report.increases
    if increases is None:
        raise SystemExit("a run without its completions")
    completions = increases.completions
    clusters = number_clusters([prompt.cluster for prompt in completions.prompts])
    matching = completions.hits("matching")
    sides = {"matching": matching, "not matching": (completions.label != "") & ~matching}
    change = increases.increase[increases.conditions.index(condition)] / completions.lengths
    before, found, whole = increases.baseline / completions.lengths, {}, []
    for side, mask in sides.items():
        quartile = np.full(len(mask), -1)
        quartile[mask] = cut_quartiles(before[mask], completions.counts[mask])
        for part, kept in zip(PARTS, (mask, quartile == 0, quartile == 3), strict=True):
            rows = np.flatnonzero(kept & np.isfinite(change))
            index = completions.prompt_index[rows]
            each = average_prompts(change[rows], completions.counts[rows], index, len(completions.prompts))
            found[side, part] = tuple(UNIT * x for x in average(each, clusters))
            if part == "all":
                whole.append(each)
    found[APART, "all"] = tuple(UNIT * x for x in average(whole[0] - whole[1], clusters))
    return found


def tabulate(name: str, report: clp.Report) -> tuple[list[list[str]], list[dict[str, object]]]:
    """Rows of the table, one for each condition, and of the figure, of the vector alone."""
    rows, drawn = [], []
    for who, condition in list_conditions(report).items():
        found = measure(report, condition)
        cells = [show_interval(*found[side, "all"], 0) for side in (*SIDES, APART)]
        cells += [show(found[side, part][0], 0) for side in SIDES for part in PARTS[1:]]
        rows.append([say_behaviour(name), who, *cells])
        if who in ("vector", "random direction"):
            drawn += [
                {"behaviour": name, "who": who, "side": side, "part": part, "value": v, "low": low, "high": high}
                for (side, part), (v, low, high) in found.items()
            ]
    return rows, drawn


def word(drawn: list[dict[str, object]]) -> str:
    """What was found, in words."""
    ends = {(row["behaviour"], row["who"], row["side"], row["part"]): row for row in drawn}
    names = list(dict.fromkeys(row["behaviour"] for row in drawn))

    def count(side: str, sign: int) -> int:
        rows = (ends[name, "vector", side, "all"] for name in names)
        return sum(sign * row["low"] > 0 and sign * row["high"] > 0 for row in rows)  # type: ignore[operator]

    def mean(who: str, part: str) -> str:
        values = [ends[name, who, side, part]["value"] for name in names for side in SIDES]
        return show(float(np.mean(values)), 0)  # type: ignore[arg-type]

    bottom, top = PARTS[1:]
    return (
        f"Of {len(names)} behaviours, the vector promotes the matching completions (an interval above zero) in "
        f"{count('matching', 1)} and makes them less likely in {count('matching', -1)}; it suppresses the others in "
        f"{count('not matching', -1)} and makes them likelier in {count('not matching', 1)}. It moves matching "
        f"completions up against the others in {count(APART, 1)}, down in {count(APART, -1)}. Over behaviours and both "
        f"kinds, the bottom quartile changes by {mean('vector', bottom)} and the top quartile by {mean('vector', top)} "
        f"thousandths of a nat per token; under a random direction that costs as much, by "
        f"{mean('random direction', bottom)} and {mean('random direction', top)}."
    )


@in_style
def draw(drawn: list[dict[str, object]]) -> None:
    """A panel for each behaviour: both kinds of completions, by quartile."""
    names = list(dict.fromkeys(str(row["behaviour"]) for row in drawn))
    figure = start_figure(0.8 + 0.75 * len(names))
    panels = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
    marks = {"all": "s", "bottom quartile": "v", "top quartile": "^"}
    for panel, name in zip(panels, names, strict=True):
        for side, colour, at in (("matching", BLUE, 1.0), ("not matching", RED, 0.0)):
            for part, shift in zip(PARTS, (0.0, 0.25, -0.25), strict=True):
                row = _pick(drawn, name, side, part)
                value, low, high = (float(row[key]) for key in ("value", "low", "high"))  # type: ignore[arg-type]
                panel.errorbar(
                    value,
                    at + shift,
                    xerr=[[value - low], [high - value]],
                    fmt=marks[part],
                    color=colour,
                    markerfacecolor=colour if part == "all" else "white",
                    markersize=4,
                    linewidth=0.9,
                    label=part if side == "matching" else None,
                )
        panel.axvline(0, color="0.6", linewidth=0.7, zorder=0)
        panel.set_yticks([1, 0], SIDES)
        panel.set_ylim(-0.55, 1.55)
        panel.set_title(say_behaviour(name), loc="left", fontsize=7, pad=2)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, handletextpad=0.2)
    panels[-1].set_xlabel("change of log likelihood, 0.001 nats per token")
    figure.suptitle("Does the vector promote, or suppress?", x=0.01, ha="left", fontsize=8)
    save_figure(figure, PAGE, drawn, CAPTION)


def _pick(drawn: Iterable[dict[str, object]], name: str, side: str, part: str) -> dict[str, object]:
    wanted = ("vector", name, side, part)
    return next(row for row in drawn if (row["who"], row["behaviour"], row["side"], row["part"]) == wanted)


def main(folder: Path) -> None:
    """Write the blocks and the figure."""
    table: list[list[str]] = []
    drawn: list[dict[str, object]] = []
    for name, report in load_studies(folder).items():
        rows, some = tabulate(name, report)
        table += rows
        drawn += some
    ends = [f"{side}, {part.split()[0]}" for side in SIDES for part in PARTS[1:]]
    write_block(PAGE, "table", make_table(["behaviour", "under", *SIDES, APART, *ends], table))
    write_block(PAGE, "findings", word(drawn))
    draw(drawn)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
