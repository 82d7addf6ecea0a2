"""A plan, and a check by direct draws -> text for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from completions_lp.plan.costs import Cost
from completions_lp.plan.forecast import LEAST_SAMPLES, Plan, sum_tokens
from completions_lp.plan.validation import LARGEST_BIAS, Verdict
from completions_lp.quantities import find_quantity
from completions_lp.records import Estimate, Measures
from completions_lp.show.escape import printable
from completions_lp.show.text.numbers import DASH, format_estimate
from completions_lp.show.text.tables import Column, draw_table, wrap_text
from completions_lp.show.text.words import name_cell, name_target
from completions_lp.stats import FEW_CLUSTERS, MIN_CLUSTERS


def format_plan(plan: Plan, info: Mapping[str, Any], *, width: int | None = None) -> str:
    """What the pilot (``run.json``: ``info``) says, sizes that reach the wanted interval, the chosen one's cost."""
    pilot, need = plan.pilot, plan.chosen
    estimate, unit = pilot.estimate, pilot.estimate.unit
    wide = 0.0 if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2
    clusters = "" if estimate.n_clusters == estimate.n else f" in {estimate.n_clusters} clusters"
    above = [
        f"Pilot: {pilot.asked} prompts{clusters} x {pilot.samples} samples. {pilot.quantity} at "
        f"{name_cell(pilot.condition)}: {format_estimate(estimate)} {unit} (± {wide:.3g})",
        _describe_spread(plan),
        f"{pilot.quantity}: {find_quantity(pilot.quantity).meaning}{_say_target(info)}",
        *_tell_red(plan),
        "",
        f"For an interval of ± {plan.half_width:.3g} {unit} it takes",
    ]
    reached = pilot.predict_half_width(need.prompts, need.samples)
    gives = f"± {reached:.3g} {unit}" if np.isfinite(reached) else "no interval"
    between = [
        f"(detectable: the smallest effect, in {unit}, that is found with 80% power{_tell_rule(plan)})\n",
        *_tell_few(plan),
        f"{need.prompts} prompts x {need.samples} samples, {plan.conditions} conditions{_tell_rivals(plan)}, would "
        f"give {gives} and cost about",
    ]
    parts = [
        wrap_text("\n".join(above), width=width),
        draw_table(_list_needs(plan), width=width),
        wrap_text("\n".join(between), width=width),
        draw_table(_list_costs(need.costs), width=width),
        wrap_text(f"Estimated from the pilot on {_name_machine(info)}.{_tell_shares(plan)}", width=width),
    ]
    return "\n".join(parts)


def format_validation(
    measures: Measures,
    differences: tuple[Estimate, ...],
    verdicts: tuple[Verdict, ...],
    share: np.ndarray,
    *,
    width: int | None = None,
) -> str:
    """One line per condition: what was estimated, what direct draws gave, their difference and what follows.

    ``share`` [condition, prompt] is that of the target among direct draws. By condition, the ``differences`` are the
    share less the estimate, and the ``verdicts`` what their intervals can tell.
    """
    estimated = np.nanmean(measures.steered["p_A_steered"], axis=1)
    red = zip((measures.trust == "red").sum(1), (measures.trust != "").sum(1), strict=True)
    words = [_write_verdict(e, verdict) for e, verdict in zip(differences, verdicts, strict=True)]
    columns = [
        Column("cell", tuple(map(name_cell, measures.conditions))),
        Column("estimated", tuple(f"{value:.3f}" for value in estimated)),
        Column("direct", tuple(f"{value:.3f}" for value in np.nanmean(share, axis=1))),
        Column("difference", tuple(format_estimate(e, signed=True) for e in differences)),
        Column("red", tuple(f"{n} of {graded}" for n, graded in red)),
        Column("verdict", tuple(words)),
    ]
    told = [text for verdict, text in _ADVICE.items() if verdict in verdicts]
    told.append("Red: prompts whose estimate the tool itself does not trust.")
    return "\n".join([draw_table(columns, width=width), *(wrap_text(text, width=width) for text in told)])


def format_count(number: float) -> str:
    """``12 k``, ``3.4 M``: three digits are more than an estimate has."""
    if np.isnan(number):
        return DASH
    for size, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{name}"
    return f"{number:.0f}"


def format_time(seconds: float) -> str:
    """``12 s``, ``3.4 min``, ``2.1 h``."""
    for size, name in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


_ADVICE: Mapping[Verdict, str] = {
    "biased": f"Biased: off by more than {LARGEST_BIAS:g} on average, which noise does not explain. Sample the steered "
    "model for this multiplier: [sampling] top_up.",
    "cannot tell": f"Cannot tell: the interval is wide, and a bias past {LARGEST_BIAS:g} could hide in it. Take more "
    "draws (--draws) or more prompts.",
    "too few prompts": f"Too few prompts: there is no interval below {MIN_CLUSTERS} independent ones.",
}
"""What follows from a verdict."""


def _write_verdict(difference: Estimate, verdict: Verdict) -> str:
    """A verdict, with how far off the estimate may be."""
    if difference.low is None or difference.high is None or verdict not in ("agrees", "cannot tell"):
        return verdict
    reach = max(abs(difference.low), abs(difference.high))
    return f"{verdict} within ±{reach:.3f}" if verdict == "agrees" else f"{verdict}: off by up to {reach:.3f}"


def _list_needs(plan: Plan) -> list[Column]:
    """By samples per prompt: prompts, power and costs; and which is chosen."""
    needs, chosen = plan.needs, _mark_chosen(plan)
    return [
        Column("samples", tuple(str(need.samples) for need in needs)),
        Column("prompts", tuple(str(need.prompts) for need in needs)),
        Column("detectable", tuple(f"{need.detectable:.3g}" for need in needs)),
        Column("network tokens", tuple(format_count(sum_tokens(need.costs)) for need in needs)),
        Column("time", tuple(format_time(sum(cost.seconds for cost in need.costs)) for need in needs)),
        *([Column("", tuple("chosen" if c else "" for c in chosen))] if any(chosen) else []),
    ]


def _list_costs(costs: Sequence[Cost]) -> list[Column]:
    """One line per stage, and the sum; of memory, the largest."""
    rows = [(cost.stage, cost.tokens, cost.seconds, cost.memory) for cost in costs]
    peaks = [cost.memory for cost in costs if np.isfinite(cost.memory)]
    rows.append(("all", sum_tokens(costs), sum(cost.seconds for cost in costs), max(peaks, default=float("nan"))))
    return [
        Column("stage", tuple(stage for stage, *_ in rows)),
        Column("network tokens", tuple(format_count(n) for _, n, *_ in rows)),
        Column("time", tuple(format_time(seconds) for *_, seconds, _ in rows)),
        Column("peak memory", tuple(DASH if np.isnan(peak) else f"{peak:.2f} GiB" for *_, peak in rows)),
    ]


def _mark_chosen(plan: Plan) -> list[bool]:
    """By need: whether it is the run whose costs are told."""
    return [need.samples == plan.chosen.samples and need.prompts == plan.chosen.prompts for need in plan.needs]


def _tell_rivals(plan: Plan) -> str:
    """The rivals that the run has beside its conditions."""
    return f" and {plan.rivals} rival{'s' if plan.rivals > 1 else ''}" if plan.rivals else ""


def _tell_rule(plan: Plan) -> str:
    """Why a size is marked as chosen where a smaller one would do; empty where none is marked, or another was asked."""
    marked = [need for need, chosen in zip(plan.needs, _mark_chosen(plan), strict=True) if chosen]
    allowed = [sum_tokens(need.costs) for need in plan.needs if need.samples >= LEAST_SAMPLES]
    if not marked or sum_tokens(marked[0].costs) != min(allowed, default=np.nan):
        return ""
    return (
        f"; chosen: the fewest network tokens with {LEAST_SAMPLES} samples or more, since with fewer P(A) under "
        "steering can hardly be trusted"
    )


def _tell_red(plan: Plan) -> list[str]:
    """That the pilot's own P(A) is not to be trusted on some prompts, and so no size planned from it."""
    if not plan.pilot.red > 0:
        return []
    return [
        f"Red: {plan.pilot.red:.0%} of the prompts. On these the pilot's estimate of P(A) is not to be trusted, and "
        "nor are its spread and the sizes below: check with --validate, or raise [sampling] top_up."
    ]


def _tell_few(plan: Plan) -> list[str]:
    """That a run has fewer prompts than the report calls few, or would have without that limit; and what to do."""
    pilot, need = plan.pilot, plan.chosen
    n = need.prompts * pilot.estimate.n_clusters // pilot.asked
    alone = pilot.estimate.n_clusters == pilot.asked
    unit = "prompts" if alone else "clusters of prompts"
    if plan.limit == "few prompts":
        told = f"That half width would take fewer prompts. But with fewer than {FEW_CLUSTERS} independent {unit} an "
        told += "interval leans on normality, however many samples each has"
        return [told + (f". Take {n} prompts or more." if alone else f": {need.prompts} prompts make {n}."), ""]
    if n >= FEW_CLUSTERS:
        return []
    why = "leans on normality" if n >= MIN_CLUSTERS else f"does not exist below {MIN_CLUSTERS}"
    told = f"Few prompts: with {n} independent {unit}, fewer than {FEW_CLUSTERS}, an interval {why}, however many "
    least = pilot.least_prompts
    return [f"{told}samples each has. Take {least} prompts or more: --prompts {least}.", ""]


def _tell_shares(plan: Plan) -> str:
    """What it saves to score less of the completions, and what is missing then; empty where that is not known."""
    less = {how: share for how, share in plan.shares.items() if how != "end"}
    if not less:
        return ""
    told = ", ".join(f"through the {how} {share:.0%}" for how, share in less.items())
    here = "" if plan.through == "end" else f" This plan is for the {plan.through}."
    return (
        f"\nScoring takes, of the tokens that whole completions take, {told} ([scoring] through). What is over whole "
        f"completions, such as KL, is missing then.{here}"
    )


def _say_target(info: Mapping[str, Any]) -> str:
    target = info.get("config", {}).get("label", {}).get("target")
    return "" if target is None else f" Target: {name_target(target)}."


def _describe_spread(plan: Plan) -> str:
    pilot, unit = plan.pilot, plan.pilot.estimate.unit
    between, noise = np.sqrt(pilot.between), np.sqrt(pilot.within / pilot.samples)
    text = f"Prompts differ by {between:.3g} {unit} (sd); {pilot.samples} samples know each to {noise:.3g} {unit}."
    if pilot.within == 0:
        return f"{text} The read-out is not sampled: only more prompts help."
    if not np.isfinite(pilot.enough_samples):
        return f"{text} No difference between prompts shows beyond that noise: samples and prompts help alike."
    enough = int(np.ceil(pilot.enough_samples))
    return f"{text} From {enough} samples a prompt on, more prompts help more than more samples."


def _name_machine(info: Mapping[str, Any]) -> str:
    machine, model = info.get("machine", {}), info.get("model", {})
    parts = [machine.get("processor"), f"{machine['cores']} cores" if "cores" in machine else None]
    parts += [f"device {model['device']}" if "device" in model else None, model.get("dtype")]
    known = ", ".join(printable(str(part)) for part in parts if part)
    return known or "a machine that its run.json does not name"
