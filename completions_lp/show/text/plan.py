"""A plan, and a check by direct draws -> text for the terminal."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from completions_lp.plan.costs import Cost
from completions_lp.plan.forecast import Plan, sum_tokens
from completions_lp.plan.validation import LARGEST_BIAS, Verdict
from completions_lp.records import Condition, Estimate, Measures
from completions_lp.show.text.text import DASH, align, format_estimate, printable


def format_plan(plan: Plan, info: Mapping[str, Any]) -> str:
    """What the pilot says, the sizes that reach the wanted interval, and what the chosen one costs."""
    pilot, need = plan.pilot, plan.chosen
    estimate, unit = pilot.estimate, pilot.estimate.unit
    wide = 0.0 if estimate.low is None or estimate.high is None else (estimate.high - estimate.low) / 2
    clusters = "" if estimate.n_clusters == estimate.n else f" in {estimate.n_clusters} clusters"
    lines = [
        f"Pilot: {pilot.asked} prompts{clusters} x {pilot.samples} samples. {pilot.quantity} at "
        f"{name_cell(pilot.condition)}: {format_estimate(estimate)} {unit}, that is ± {wide:.3g}",
        _describe_spread(plan),
        "",
        f"For an interval of ± {plan.half_width:.3g} {unit} it takes",
        align([_TITLES, *(_list_need(n) for n in plan.needs)]),
        f"(detectable: the smallest effect, in {unit}, that is found with 80% power)",
        "",
        f"{need.prompts} prompts x {need.samples} samples, {plan.conditions} conditions, would give "
        f"± {pilot.predict_half_width(need.prompts, need.samples):.3g} {unit} and cost about",
        format_costs(need.costs),
        f"Estimated from the pilot on {_name_machine(info)}.",
    ]
    return "\n".join(lines)


def format_costs(costs: tuple[Cost, ...]) -> str:
    """One line per stage, and the sum; of memory, the largest."""
    rows = [(cost.stage, cost.tokens, cost.seconds, cost.memory) for cost in costs]
    peaks = [cost.memory for cost in costs if np.isfinite(cost.memory)]
    rows.append(("all", sum_tokens(costs), sum(cost.seconds for cost in costs), max(peaks, default=float("nan"))))
    cells = [[stage, format_count(n), format_time(t), _format(peak, "{:.2f} GiB")] for stage, n, t, peak in rows]
    return align([["stage", "network tokens", "time", "peak memory"], *cells])


def format_validation(
    measures: Measures, differences: tuple[Estimate, ...], verdicts: tuple[Verdict, ...], share: np.ndarray
) -> str:
    """One line per condition: what was estimated, what direct draws gave, their difference and what follows."""
    rows = [["cell", "estimated", "direct", "difference", "red", "verdict"]]
    for c, (condition, e, verdict) in enumerate(zip(measures.conditions, differences, verdicts, strict=True)):
        trust = measures.trust[c]
        graded = int((trust != "").sum())
        rows.append(
            [
                name_cell(condition),
                f"{np.nanmean(measures.steered['p_A_steered'][c]):.3f}",
                f"{np.nanmean(share[c]):.3f}",
                format_estimate(Estimate(e.value, e.low, e.high, e.level, "", e.n, e.n_clusters, e.method)),
                f"{(trust == 'red').sum()} of {graded}",
                _VERDICTS[verdict],
            ]
        )
    return align(rows)


def name_cell(condition: Condition) -> str:
    """``layer 2, multiplier +1``."""
    return f"layer {condition.layer}, multiplier {condition.multiplier:+g}"


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


_TITLES = ["samples", "prompts", "detectable", "network tokens", "time"]
_VERDICTS: Mapping[Verdict, str] = {
    "too few prompts": "too few prompts to tell",
    "agrees": f"agrees within {LARGEST_BIAS:g}",
    "cannot tell": f"cannot tell: the interval reaches past {LARGEST_BIAS:g}; take more prompts or draws",
    "biased": "biased: sample the steered model (sampling.top_up) for this multiplier",
}


def _list_need(need: Any) -> list[str]:
    seconds = sum(cost.seconds for cost in need.costs)
    detectable = f"{need.detectable:.3g}"
    return [
        str(need.samples),
        str(need.prompts),
        detectable,
        format_count(sum_tokens(need.costs)),
        format_time(seconds),
    ]


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


def _format(value: float, form: str) -> str:
    return DASH if np.isnan(value) else form.format(value)
