"""What was found on the real model: vectors of each behaviour at the same cost, beside what they have to beat.

python analysis/pages/study.py STUDY_DIR
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from blocks import make_table, show, show_interval, write_block
from studies import BEHAVIOURS, load_studies, say_behaviour

import completions_lp as clp
from completions_lp.records import Condition, Estimate

PAGE = "study"
EFFECT, INCREASE, CHOICE, COST = "delta_p_A", "increase_to_answer_A", "logit_diff_change", "kl_per_token"
SHOWN = ((EFFECT, 1), (INCREASE, 3), (CHOICE, 3))
"""Numbers of the tables, with their digits."""
KINDS = {
    "target": "mean difference",
    "negated": "the same, negated",
    "further": "principal component",
    "random": "random direction",
    "shuffled": "labels shuffled",
    "rival": "system prompt",
}


def show_estimate(estimate: Estimate | None, digits: int) -> str:
    """An estimate with its interval; a dash where there is none."""
    if estimate is None:
        return "–"
    ends = (float("nan") if end is None else end for end in (estimate.low, estimate.high))
    return show_interval(estimate.value, *ends, digits)


def index_rows(report: clp.Report) -> dict[tuple[Condition, str], Estimate]:
    """Means over all prompts, by condition and quantity."""
    return {
        (row.condition, row.quantity): row.estimate
        for row in report.rows
        if (row.weighting, row.split) == ("macro", "all")
    }


def list_cells(report: clp.Report, *kinds: str) -> Iterator[Condition]:
    """Conditions of these kinds that do something, in the order of the kinds and the layers."""
    conditions = {row.condition for row in report.rows}
    for kind in kinds:
        yield from sorted((c for c in conditions if c.kind == kind and c.multiplier), key=lambda c: c.layer)


def tabulate_layers(reports: dict[str, clp.Report]) -> str:
    """The vector at each layer, all at one cost."""
    rows = []
    for name, report in reports.items():
        found = index_rows(report)
        for cell in list_cells(report, "target"):
            numbers = [show_estimate(found.get((cell, quantity)), digits) for quantity, digits in SHOWN]
            cost, size = found[cell, COST].value, show(cell.multiplier, 1, signed=False)
            rows.append([say_behaviour(name), cell.layer, size, show(cost, 3, signed=False), *numbers])
    columns = ["behaviour", "layer", "multiplier", "KL/token", "ΔP(matching), pp", "increase, nats", "two-choice, nats"]
    return make_table(columns, rows)


def tabulate_controls(reports: dict[str, clp.Report]) -> str:
    """At the vector's best layer, everything that it has to beat."""
    rows = []
    for name, report in reports.items():
        best, found = report.best, index_rows(report)
        if best is None:
            raise SystemExit(f"{name}: no cell of its run has a value")
        for cell in list_cells(report, *KINDS):
            if cell.kind == "rival" or cell.layer == best.condition.layer:
                numbers = [show_estimate(found.get((cell, quantity)), digits) for quantity, digits in SHOWN]
                rows.append([say_behaviour(name), KINDS[cell.kind], *numbers])
    return make_table(["behaviour", "under", "ΔP(matching), pp", "increase, nats", "two-choice, nats"], rows)


def tabulate_facts(reports: dict[str, clp.Report]) -> str:
    """What the best cell does to questions of fact."""
    rows = []
    for name, report in reports.items():
        found = {row.quantity: row.estimate for row in report.off_target if row.name == "facts"}
        numbers = (found.get(EFFECT), found.get("greedy_change"), found.get(COST))
        shown = [show_estimate(e, digits) for e, digits in zip(numbers, (1, 1, 3), strict=True)]
        rows.append([say_behaviour(name), *shown])
    return make_table(["vector of", "ΔP(right answer), pp", "Δaccuracy, pp", "KL/token"], rows)


def word(reports: dict[str, clp.Report]) -> str:
    """What was found, by behaviour, on the half of the questions that had no say in the choice of the cell."""
    lines = []
    for name, report in reports.items():
        best, found = report.best, index_rows(report)
        if best is None:
            continue
        held = {row.quantity: row.estimate for row in report.rows if row.condition == best.condition}
        held |= {
            row.quantity: row.estimate
            for row in report.rows
            if (row.condition, row.split, row.weighting) == (best.condition, "report", "macro")
        }
        before = next(e for (c, quantity), e in found.items() if quantity == "p_A" and c.kind == "baseline")
        answered = next(e for (c, quantity), e in found.items() if quantity == "answered" and c.kind == "baseline")
        red = 100 * report.checks["share_red"]
        lines.append(
            f"- **{say_behaviour(name).capitalize()}**: unsteered, {100 * answered.value:.0f} % of the completions "
            f"answer within the window, {100 * before.value:.0f} % with the matching answer. The best cell is layer "
            f"{best.condition.layer}: {show_estimate(held.get(EFFECT), 1)} pp, and the average log-prob increase of "
            f"the matching completions is {show_estimate(held.get(INCREASE), 3)} nats. {red:.0f} % of the prompts' "
            "probabilities under steering are red: too few draws resemble steered ones."
        )
        lines += [f"  The run warns: {error.split(';')[0]}." for error in report.errors]
    return "\n".join(lines)


def say_covered(reports: dict[str, clp.Report]) -> str:
    """Which studies the pages are made from, and which are missing."""
    made, missing = ([say_behaviour(b) for b in BEHAVIOURS if (b in reports) == there] for there in (True, False))
    told = f" Not made yet: {', '.join(missing)}." if missing else ""
    n = {len(set(report.prompts["prompt_id"])) for report in reports.values()}
    return f"Made from the studies of {', '.join(made)}: {'/'.join(map(str, sorted(n)))} questions each.{told}"


def main(folder: Path) -> None:
    """Write the blocks."""
    reports = load_studies(folder)
    write_block(PAGE, "covered", say_covered(reports))
    write_block(PAGE, "findings", word(reports))
    write_block(PAGE, "layers", tabulate_layers(reports))
    write_block(PAGE, "controls", tabulate_controls(reports))
    sets = {name: clp.load(folder / name) for name in reports}
    write_block(PAGE, "facts", tabulate_facts(sets))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
