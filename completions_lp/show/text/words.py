"""What the answer, a cell and an interval are called in tables and sentences."""

from collections.abc import Mapping

from completions_lp.records import Condition, Estimate, Labelling, Report, name_function
from completions_lp.show.escape import escape_markdown, printable

MARK = ">"
"""Stands before the best cell."""


def name_target(target: str) -> str:
    """What ``A`` stands for: ``each prompt's behaviour-matching answer``, or ``the answer "B"``."""
    return "each prompt's behaviour-matching answer" if target == "matching" else f'the answer "{printable(target)}"'


def name_answer(target: str) -> str:
    """The same in a word or two, as it stands in P(...)."""
    return "matching answer" if target == "matching" else f'"{printable(target)}"'


def say_target(report: Report) -> str:
    """The line above a table: what its A is, and where it has to stand."""
    if report.increases is None or report.is_undrawn:
        return f"A: {name_target(report.target)}."
    return f"A: {name_target(report.target)}, {say_window(report.increases.completions.labelling)}."


def say_window(labelling: Labelling) -> str:
    """Where an answer has to stand to count: ``given within the first 10 tokens of a completion (the window)``."""
    if labelling.within == "all":
        return "given anywhere in a completion (all of which is the window)"
    return f"given within the first {labelling.within} tokens of a completion (the window)"


def say_rule(labelling: Labelling) -> str:
    """How a completion comes by its label: ``by first passage within the first 10 tokens (the window; rule …)``."""
    how = {
        "final_answer": "the last one that is committed",
        "python": f"as {printable(name_function(labelling.function))} says of the text",
    }.get(labelling.rule, "by first passage")
    if labelling.within == "all":
        return f"{how}, in the whole completion (rule {labelling.rule})"
    return f"{how} within the first {labelling.within} tokens (the window; rule {labelling.rule})"


def say_decided(labelling: Labelling) -> str:
    """What it means that the window as a whole decides; empty where the first answer does."""
    if labelling.is_first_passage:
        return ""
    return (
        "the window as a whole decides the label, as a later answer may undo an earlier one: the increase *to the "
        "answer* is through its end (before the answer and at its token are told apart), and P(A) is a share of weights"
    )


def say_units(report: Report) -> str:
    """What the numbers of a table are: means, with which brackets."""
    known = [row.estimate for row in report.rows if row.estimate.low is not None and row.weighting == "macro"]
    if not known:
        return "Numbers are means over prompts (macro); there are no intervals."
    unit = "prompts" if all(e.n == e.n_clusters for e in known) else "clusters of prompts"
    return f"Numbers are means over prompts (macro), brackets {known[0].level:.0%} intervals over {unit}."


def say_stored(report: Report) -> str:
    """How the weights are stored, where that is in fewer bits than they compute in; else empty."""
    model = report.info.get("model") or {}
    stored = model.get("quantization") if isinstance(model, Mapping) else ""
    return (
        f"the weights are quantised: {escape_markdown(str(stored))}; all numbers are of the model as it is"
        if stored
        else ""
    )


def say_scored(report: Report) -> str:
    """How far completions are scored, and what is missing for it; empty where they are scored through their end."""
    if report.increases is None or report.through == "end":
        return ""
    completions = report.increases.completions
    scored, there = int(completions.count_scored(report.through).sum()), int(completions.lengths.sum())
    where = "the window" if report.through == "window" else "the answer, or the window where there is none"
    share = f" ({scored / there:.0%})" if there else ""
    return (
        f'Completions are scored through {where} ([scoring] through = "{report.through}"): {scored:,} of the '
        f"{there:,} tokens of the distinct ones{share}. What is over whole completions is missing for it: their "
        "increases, the part after the answer, KL, the sampler test and the mean of all completions."
    )


def name_cell(condition: Condition) -> str:
    """``layer 2, multiplier +1``; of a rival, its name."""
    return printable(condition.place)


def name_size(e: Estimate) -> str:
    """``60 prompts in 12 clusters``."""
    return f"{e.n} prompts" if e.n == e.n_clusters else f"{e.n} prompts in {e.n_clusters} clusters"
