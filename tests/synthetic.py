"""A report made up from known effects, without a model: what figures are tried on.

Layers differ in strength, the middle one is the strongest; damage grows with the square of the multiplier; random
directions do a little damage and nothing else. Per-prompt columns come first and rows are their means.
"""

from dataclasses import replace
from functools import cache

import numpy as np
from scipy import stats
from scipy.special import expit, logit

from completions_lp.records import (
    BASELINE,
    Best,
    Completions,
    Condition,
    Estimate,
    Increases,
    Inference,
    Labelling,
    OffTargetRow,
    ProfileRow,
    Prompt,
    Report,
    ReportRow,
    RivalRow,
    Sampling,
    Slope,
    VectorQuality,
    make_rival,
)

UNITS = dict.fromkeys(("read_A", "read_A_answer_only", "read_A_reasoning_only", "read_A_steered"), "probability")
UNITS |= {
    "read_red": "share",
    "delta_p_A": "pp",
    "p_A_steered": "probability",
    "kl_per_token": "nats/token",
    "ess": "draws",
}
SWEPT = ("delta_p_A", "log_ratio_A", "increase_to_answer_A", "logit_diff_change")
PER_PROMPT = 6


@cache
def make_study(
    layers=(0, 1, 2),
    multipliers=(-2.0, -1.0, 1.0, 2.0),
    n_prompts=12,
    *,
    n_random=19,
    target="A",
    vector="v",
    least=6,
    seed=0,
):
    """A report of the target vector and random directions; intervals exist from ``least`` prompts on."""
    rng = np.random.default_rng(seed)
    prompts = make_prompts(n_prompts, target)
    names = [(vector, "target"), *((f"{vector}-random-{i}", "random") for i in range(n_random))]
    conditions = [Condition(v, kind, layer, m) for v, kind in names for layer in layers for m in multipliers]
    base = rng.normal(0, 1.2, n_prompts)
    taste = rng.normal(1, 0.5, n_prompts)
    columns = [_measure(rng, c, layers, base, taste) for c in conditions]
    rows = [row for c, found in zip(conditions, columns, strict=True) for row in _average(c, found, least)]
    unsteered = estimate(expit(base), "probability", least)
    rows = [*_compare(rows), *(ReportRow(BASELINE, name, "macro", unsteered, 0) for name in ("p_A", "read_A"))]
    held = _hold_out(rows)
    rows += held
    table = {name: np.concatenate([found[name] for found in columns]) for name in (columns[0] if columns else ())}
    table |= {
        "prompt_id": np.tile([p.id for p in prompts], len(conditions)),
        **{name: np.repeat([getattr(c, name) for c in conditions], n_prompts) for name in ("vector", "kind", "layer")},
        "multiplier": np.repeat([c.multiplier for c in conditions], n_prompts),
    }
    own = [c for c in conditions if c.kind == "target"]
    return Report(
        target,
        tuple(rows),
        table,
        {"sampler_z": 0.42},
        profile=tuple(row for c in own for row in _profile(c, n_prompts, least)),
        slopes=tuple(
            _slope(vector, layer, multipliers, n_prompts, least, quantity)
            for layer in layers
            for quantity in ("logit_diff_change", "log_ratio_A")
            if multipliers
        ),
        best=Best(held[0].condition, held[0].quantity, True, len(layers) * len(multipliers)) if held else None,
        increases=make_increases(prompts, conditions, target, rng),
    )


def make_prompts(n, target="A"):
    """Two-choice prompts whose first answer is the target; the matching answers take turns."""
    pair = ("A" if target == "matching" else target, "B")
    return tuple(Prompt(f"p{i}", f"text {i}", (1, 2), pair, pair[i % 2], pair[1 - i % 2], f"p{i}") for i in range(n))


def make_increases(prompts, conditions, target, rng):
    """Six distinct completions a prompt, of which the even ones give A and the odd ones B."""
    n = len(prompts) * PER_PROMPT
    index = np.repeat(np.arange(len(prompts)), PER_PROMPT).astype(np.int32)
    label = np.tile(np.array(prompts[0].letters if prompts else ["A", "B"]), n // 2)
    completions = Completions(
        prompts=prompts,
        prompt_index=index,
        token_ids=np.ones((n, 3), dtype=np.int32),
        lengths=np.full(n, 3, dtype=np.int32),
        counts=rng.integers(1, 9, n).astype(np.int32),
        ended=np.ones(n, dtype=bool),
        label=label,
        answer_index=np.ones(n, dtype=np.int32),
        logprob=np.full((n, 3), -1.0),
        text=("text",) * n,
        pieces=(("text",),) * n,
        sampling=Sampling(),
        labelling=Labelling(),
    )
    wanted = np.array([p.matching if target == "matching" else target for p in prompts])
    hit = label == wanted[index] if n else np.zeros(0, dtype=bool)
    push = np.array([c.multiplier * (0.8 if c.kind == "target" else 0.05) for c in conditions])[:, None]
    value = push * np.where(hit, 1.0, -1.0) - 0.1 * push**2 + rng.normal(0, 0.4, (len(conditions), n))
    parts = {"increase": value - 0.2, "increase_to_answer": value, "before_answer": 0.3 * value}
    parts |= {"at_answer": 0.7 * value, "after_answer": np.full_like(value, -0.2)}
    return Increases(completions, tuple(conditions), np.full(n, -3.0), **parts)


def estimate(values, unit, least=6):
    """Mean over prompts with a t interval, where there are enough of them."""
    known = values[np.isfinite(values)]
    mean = known.mean() if len(known) else np.nan
    if len(known) < least:
        return Estimate(float(mean), None, None, 0.95, unit, len(known), len(known), "t")
    se = known.std(ddof=1) / np.sqrt(len(known))
    half = _critical(len(known)) * se
    ends = float(mean - half), float(mean + half)
    return Estimate(float(mean), *ends, 0.95, unit, len(known), len(known), "t", float(se), len(known) - 1.0)


@cache
def _critical(n):
    return float(stats.t.ppf(0.975, n - 1))


def _measure(rng, c, layers, base, taste):
    """The per-prompt columns of one condition."""
    n, middle = len(base), layers[len(layers) // 2]
    strength = (0.9 / (1 + abs(c.layer - middle - 0.2))) if c.kind == "target" else 0.06 * rng.normal()
    push, noise = strength * c.multiplier, rng.normal(0, 0.05, (4, n))
    p = expit(base)
    q = expit(base + push * taste - 0.05 * c.multiplier**2 + noise[0])
    damage = 0.06 * (1 + 0.15 * c.layer + 0.3 * rng.random()) * c.multiplier**2 * (1 + np.abs(noise[1]))
    log_ratio = np.log(q / p)
    width = 0.04 + 0.05 * np.abs(c.multiplier) * rng.random(n)
    kind = np.where(width < 0.08, "certified", np.where(width < 0.13 + 0.03 * (c.layer == middle), "green", "red"))
    n_A = rng.binomial(100, p).astype(np.int64)
    rarely = np.where(n_A == 0, np.nan, 0.0)
    before, at, after = 0.3 * log_ratio - 0.2 * damage, 0.7 * log_ratio - 0.3 * damage, -0.5 * damage
    return {
        **{"n": np.full(n, 100), "n_A": n_A, "p_A": p, "p_A_se": np.full(n, 0.01)},
        **{"p_A_low": p - 0.01, "p_A_high": p + 0.01, "trust": kind.astype("<U9")},
        **{"p_A_steered": q, "p_A_steered_se": 0.2 * width, "p_A_steered_low": q - width / 2},
        **{"p_A_steered_high": q + width / 2, "delta_p_A": 100 * (q - p), "log_ratio_A": log_ratio},
        **{"delta_logit_A": logit(q) - logit(p), "increase_to_answer_A": log_ratio - 0.5 * damage + rarely},
        **{"increase_to_answer_not_A": -0.6 * push * taste - damage, "increase_A": before + at + after + rarely},
        **{"before_answer_A": before + rarely, "at_answer_A": at + rarely, "after_answer_A": after + rarely},
        **{"answer_share": 0.7 * (logit(q) - logit(p)), "reasoning_share": 0.3 * (logit(q) - logit(p))},
        **{"kl": 4 * damage, "kl_per_token": damage, "increase_all": -4 * damage + noise[2]},
        **{"logit_diff": base, "logit_diff_steered": base + push * taste, "logit_diff_change": push * taste},
        **{"pref_odds_change": push * taste, "util_odds_change": -5 * damage},
        **{"log_odds_change_answered": -4 * damage + noise[3]},
        **{"log_odds_change_A_B": push * taste + noise[3], "ess": 100 * np.exp(-0.4 * damage * rng.random(n) * 10)},
        **{"mean_weight_low": 1 - 0.9 * damage, "mean_weight_high": 1 + damage},
        **{f"reasoning_{k}": before / 10 * (1 + 0.1 * k) for k in range(1, 11)},
        **{"read_A": p, "read_A_answer_only": (2 * p + q) / 3, "read_A_reasoning_only": (p + 2 * q) / 3},
        **{"read_A_steered": q, "read_red": (kind == "red").astype(float)},
        "excess_surprisal": np.random.default_rng(1).normal(0, 0.1, n),
    }


def _average(c, found, least):
    """Means over prompts of every number, and the shares."""
    skip = ("n", "n_A", "trust", "p_A", "p_A_se", "p_A_low", "p_A_high", "p_A_steered_se", "excess_surprisal")
    skip = (*skip, "read_A")
    for name, values in found.items():
        if name not in skip:
            e = estimate(values, UNITS.get(name, "nats"), least)
            tested = name in SWEPT and e.low is not None
            p = float(2 * stats.t.sf(abs(e.value / e.se), e.df)) if tested else np.nan
            yield ReportRow(c, name, "macro", e, len(values) - e.n, Inference(p_t=p))
    n = len(found["trust"])
    shares = {f"share_{name}": (found["trust"] == name).mean() for name in ("certified", "green", "red")}
    shares |= {"below_zero_delta_p_A": (found["delta_p_A"] < 0).mean()}
    for name, share in shares.items():
        yield ReportRow(c, name, "macro", Estimate(float(share), None, None, 0.95, "share", n, n, "count"), 0)


def _compare(rows):
    """Bands and comparisons for the swept quantities of the target."""
    by_place = {}
    for row in rows:
        if row.condition.kind == "random":
            place = (row.quantity, row.condition.layer, row.condition.multiplier)
            by_place.setdefault(place, []).append(row.estimate.value)
    out = []
    for row in rows:
        e, c = row.estimate, row.condition
        if c.kind == "target" and row.quantity in SWEPT and c.multiplier != 0:
            others = by_place.get((row.quantity, c.layer, c.multiplier), [])
            low, high = np.quantile(others, [0.025, 0.975]) if len(others) >= 19 else (np.nan, np.nan)
            half = np.nan if e.low is None else 1.5 * (e.high - e.value)
            p = np.nan if e.low is None else float(min(1, 3 * row.inference.p_t))
            inference = replace(
                row.inference,
                band_low=e.value - half,
                band_high=e.value + half,
                p_max_t=p,
                random_low=low,
                random_high=high,
            )
            row = replace(row, inference=inference)
        out.append(row)
    return out


def _hold_out(rows):
    """The cell with the largest change, as if chosen on half of the prompts."""
    swept = [r for r in rows if r.quantity == "delta_p_A" and r.condition.kind == "target" and r.condition.multiplier]
    if not swept:
        return []
    best = max(swept, key=lambda row: row.estimate.value)
    half = replace(best.estimate, value=best.estimate.value - 1, n=best.estimate.n // 2)
    return [replace(best, estimate=half, split="report")]


def _profile(c, n_prompts, least):
    for offset in range(-4, 7):
        value = 0.5 * c.multiplier * np.exp(-abs(offset)) - 0.01 * c.multiplier**2 * max(offset, 0)
        ends = (value - 0.05, value + 0.05) if n_prompts >= least else (None, None)
        e = Estimate(value, *ends, 0.95, "nats", n_prompts, n_prompts, "t")
        yield ProfileRow(c, offset, e, int(2000 * np.exp(-0.15 * abs(offset))))


def _slope(vector, layer, multipliers, n, least, quantity):
    ends = (0.3 + 0.1 * layer, 0.7 + 0.1 * layer) if n >= least else (None, None)
    e = Estimate(0.5 + 0.1 * layer, *ends, 0.95, "nats/multiplier", n, n, "t")
    doses = tuple(sorted({0.0, *multipliers}))
    return Slope(vector, "target", layer, "completion", quantity, e, 0.08, doses)


def add_others(report):
    """The report with a rival and an off-target set at every position: half the effect of the cells, and a third.

    And with a quality of its vector.
    """
    own = [row for row in report.rows if row.condition.kind == "target" and row.split == "all"]
    shown = [row for row in own if row.quantity == "delta_p_A" and row.weighting == "macro"]
    if not shown:
        return report
    rows, rivals, sets = [], [], []
    for positions in dict.fromkeys(row.condition.positions for row in shown):
        here = [row for row in shown if row.condition.positions == positions]
        rival = make_rival(f"{here[0].condition.vector} told", positions=positions)
        half = shrink(here[-1].estimate, 0.5)
        rows.append(replace(here[-1], condition=rival, estimate=half, inference=Inference()))
        rivals += [
            RivalRow(rival, row.condition, "delta_p_A", row.estimate, half, shrink(row.estimate, 0.5), 0)
            for row in here
        ]
        for row in here:
            damage = shrink(replace(row.estimate, unit="nats/token"), 0.01)
            accuracy = shrink(row.estimate, -0.1)
            for quantity, e in (
                ("delta_p_A", shrink(row.estimate, 0.3)),
                ("greedy_change", accuracy),
                ("kl_per_token", damage),
            ):
                name = f"{row.condition.vector} set"
                sets.append(OffTargetRow(name, row.condition, quantity, e, 0, "delta_p_A", row.estimate))
    layers = sorted({row.condition.layer for row in own})
    quality = {layer: VectorQuality(2.0, 0.5, 0.9, 0.4 + 0.01 * layer, 1.0 + layer, 0.5, 0.2) for layer in layers}
    return replace(report, rows=(*report.rows, *rows), rivals=tuple(rivals), off_target=tuple(sets), quality=quality)


def shrink(estimate, factor):
    """A number that is so many times another."""
    ends = [None if end is None else factor * end for end in (estimate.low, estimate.high)]
    low, high = ends if factor > 0 else ends[::-1]
    return replace(estimate, value=factor * estimate.value, low=low, high=high)
