"""Words for quantities, units and intervals, as axes and captions say them."""

from collections.abc import Iterable, Sequence

from completions_lp.quantities import find_quantity
from completions_lp.records import Condition, Estimate, Report
from completions_lp.show.escape import printable
from completions_lp.show.subject import name_behaviour, name_model


def describe(quantity: str, target: str) -> str:
    """A quantity in words, of this target, on one line or two."""
    return find_quantity(quantity).label.replace("{A}", name_target(target))


def name_target(target: str, *, limit: int = 16) -> str:
    """The target answer as it stands in words like P(A)."""
    return printable(target, limit=limit)


def count(n: int, noun: str) -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def name_answer(target: str) -> str:
    """The target answer, as it is said to be given."""
    return "the matching answer" if target == "matching" else name_target(target)


def say_target(target: str) -> str:
    """What the answer's name in a caption stands for."""
    if target == "matching":
        return "The target is each prompt's answer that matches the behaviour."
    return f"The target is the answer {name_target(target)}."


def name_subject(report: Report) -> str:
    """``Model tiny-chooser, vector cautious, behaviour cautious``: the behaviour is the file of the prompts.

    What a report does not tell is left out.
    """
    vector = next((row.condition.vector for row in report.rows if row.condition.kind == "target"), None)
    told = {"model": name_model(report.info), "vector": vector, "behaviour": name_behaviour(report.info)}
    said = ", ".join(f"{name} {printable(value, limit=40)}" for name, value in told.items() if value)
    return said[:1].upper() + said[1:]


def name_cell(condition: Condition) -> str:
    """``layer 2, multiplier +1``."""
    done = "" if condition.operation == "add" else f", {condition.operation}"
    times = sign(float(f"{condition.multiplier:.4g}"))
    return f"{name_layers(condition)}{done}, multiplier {times}"


def name_layers(condition: Condition) -> str:
    """``layer 2``, or of layers that are steered at once ``layers 2-4``."""
    return f"layer{'s' if condition.beyond else ''} {condition.site}"


def name_rival(condition: Condition, *, limit: int = 24) -> str:
    """A rival as it stands in a legend."""
    return f"rival {printable(condition.vector, limit=limit)}"


def sign(number: float, *, digits: int | None = None) -> str:
    """A number with its sign, the minus a true one: ``+0.5``."""
    text = f"{number:+g}" if digits is None else f"{number:+.{digits}f}"
    return text.replace("-", "−")


def write_estimate(estimate: Estimate, *, digits: int = 2) -> str:
    """``+0.53 [+0.41, +0.65] nats``; a missing interval is not written."""
    text = sign(estimate.value, digits=digits)
    if estimate.low is not None and estimate.high is not None:
        text += f" [{sign(estimate.low, digits=digits)}, {sign(estimate.high, digits=digits)}]"
    return f"{text} {estimate.unit}"


def say_intervals(estimates: Iterable[Estimate]) -> str:
    """``95 % t intervals over 60 prompts in 12 clusters``, of those that were drawn; or why there is none."""
    known = [e for e in estimates if e.n > 0]
    drawn = [e for e in known if e.low is not None]
    if not drawn:
        return f"none, {_count_prompts(known)} being too few"
    methods = " and ".join(sorted({e.method for e in drawn}))
    levels = " and ".join(f"{level:.0%}".replace("%", " %") for level in sorted({e.level for e in drawn}))
    return f"{levels} {methods} intervals over {_count_prompts(drawn)}"


def say_crosses(across: Sequence[Estimate], up: Sequence[Estimate]) -> str:
    """What the bars of a cross are: to the sides, and up and down."""
    sides, height = say_intervals(across), say_intervals(up)
    if sides == height:
        return f"Bars both ways: {sides}."
    return f"Bars up and down: {height}; to the sides: {sides}."


def note_few(estimates: Iterable[Estimate]) -> str | None:
    """What a figure says where not one of its numbers has an interval; None where one has."""
    known = [e for e in estimates if e.n > 0]
    if any(e.low is not None for e in known):
        return None
    return f"{_count_prompts(known)}: no intervals" if known else "undefined for every prompt"


def _count_prompts(estimates: Sequence[Estimate]) -> str:
    prompts, clusters = [sorted({getattr(e, name) for e in estimates}) or [0] for name in ("n", "n_clusters")]
    text = _span(prompts, "prompt")
    return text if prompts == clusters else f"{text} in {_span(clusters, 'cluster')}"


def _span(numbers: Sequence[int], noun: str) -> str:
    return count(numbers[0], noun) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]} {noun}s"
