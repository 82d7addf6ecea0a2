"""Words for quantities, units and intervals, as axes and captions say them."""

from collections.abc import Iterable, Sequence

from completions_lp.records import Condition, Estimate, Report

WORDS = {
    "delta_p_A": "change of P({A})",
    "log_ratio_A": "log ratio of P({A})",
    "delta_logit_A": "change of logit P({A})",
    "p_A": "P({A})",
    "p_A_steered": "P({A})",
    "increase_to_answer_A": "log-prob increase of {A} completions,\nto the answer",
    "increase_to_answer_A_rb": "log-prob increase of {A} completions,\nto the answer (averaged)",
    "increase_A": "log-prob increase of {A} completions",
    "increase_to_answer_not_A": "log-prob increase of other completions,\nto the answer",
    "increase_not_A": "log-prob increase of other completions",
    "increase_all": "log-prob increase of all completions",
    "difference_A_not_A": "increase of {A} less that of others",
    "kl": "KL(unsteered ‖ steered)",
    "kl_per_token": "KL(unsteered ‖ steered)",
    "logit_diff": "logit diff",
    "logit_diff_steered": "logit diff",
    "logit_diff_change": "change of the two-choice logit diff",
    "log_odds_change_A_B": "change of the sampled log odds",
    "mass_steered": "probability of the two letters",
}
"""By quantity; ``{A}`` stands for the target answer."""
NATS = ("nats", "nats/token")


def describe(report: Report, quantity: str) -> str:
    """A quantity in words, of this report's target."""
    return WORDS.get(quantity, quantity).replace("{A}", make_plain(report.target, limit=16))


def describe_unit(report: Report, quantity: str, unit: str) -> str:
    """The label of an axis: the quantity in words and its unit."""
    return f"{describe(report, quantity)} ({unit})"


def make_plain(text: str, *, limit: int = 40) -> str:
    """Text of files on one short line: control characters made visible, the rest as it stands."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def count(n: int, noun: str) -> str:
    """``1 prompt``, ``2 prompts``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def name_answer(report: Report) -> str:
    """The target answer, as it is said to be given."""
    return "the matching answer" if report.target == "matching" else make_plain(report.target, limit=16)


def name_cell(condition: Condition) -> str:
    """``layer 2, multiplier +1``."""
    return f"layer {condition.layer}, multiplier {sign(condition.multiplier)}"


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
