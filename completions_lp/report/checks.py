"""What must hold in every run: the instrument's checks as numbers, and what failed as errors with its likely cause."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import ndtr

from completions_lp.records import Increases, Measures
from completions_lp.report.broken import describe_broken
from completions_lp.report.prompts import Columns
from completions_lp.score.sums import check_increases
from completions_lp.stats import fixed_prompt_se, mean_t, measure_spread

MAX_Z, WARN_Z = 5.0, 3.0
"""|z| of the sampler test beyond which a run has failed, and is doubtful: by chance, a sound run is beyond them once in
1.7 million and once in 370 runs (numbers.md §2e)."""
RESOLUTION = 1e-4
"""Nats by which rounding may move a prompt's mean surprisal less entropy, as a further standard error."""
MAX_T, WARN_T = 5.0, 3.0
"""t over prompts past which the all-completions mean says that a run has failed, and the labels that it is doubtful."""
MAX_LABEL_GAP = 0.02
"""Mean difference over prompts between the share of completions labelled with the target and P(A) as tokens have it."""
MAX_NOISE = 0.01
"""Nats by which multiplier 0 may change a completion: it must do nothing but round."""
MAX_GAP, WARN_GAP = 0.5, 0.05
"""Nats, per completion, between its log prob when it was drawn and when it was scored."""
MOST_ROUNDING = 3.0
"""The same, root mean square, in units of the rounding that the run measured: of this size it is no finding; 1 to 1.4
is what two layouts of one model are apart."""
FALSE_ALARMS = 1e-3
"""How often the largest of many t, over few prompts, may be taken for an error where there is none."""


@dataclass(frozen=True)
class Findings:
    """What the instrument says about itself."""

    checks: dict[str, float]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]


def check_run(
    increases: Increases, columns: Columns, measures: Measures | None, *, rounding: float = float("nan")
) -> Findings:
    """Check the instrument; ``rounding`` is what was measured of it, as the standard deviation of a completion's sum.

    Returns:
        Numbers: ``noise_floor`` and ``sampler_gap`` as of ``check_increases``. ``sampler_z``: the mean over prompts of
        surprisal minus entropy, 0 in expectation, over its error from the prompts' own draws (numbers.md P12), however
        few the prompts; beyond 3, as 0.27 % of sound runs are (0.6 % with 30 draws in all), it warns, beyond 5 it is an
        error; NaN where it was not read. ``all_completions_z``: the largest t over conditions of ``increase_all``,
        which estimates −KL (numbers.md I1); NaN with fewer than 6 clusters. Both are of plain sampling, else NaN.
        ``label_gap``: mean over prompts of the share of completions labelled with the target less P(A) by the single
        tokens, two estimates of one number. ``not_finite`` counts scores that are no number. Of completions that are
        not scored through their end, the second and the third are NaN, and the others are of the tokens scored.
        Errors: cells that are left out for log probs that are no numbers; what failed, with its likely cause. What was
        measured and is NaN has failed.
    """
    plain = increases.completions.sampling.is_ancestral and len(increases.completions) > 0
    checks = check_increases(increases) | dict.fromkeys(("sampler_z", "all_completions_z", "label_gap"), float("nan"))
    parts = (increases.baseline, increases.increase[:, increases.is_whole], increases.increase_to_answer)
    checks["not_finite"] = float(sum(int((~np.isfinite(part)).sum()) for part in parts))
    errors, warnings = describe_broken(columns)
    for found, more in zip((errors, warnings), _judge_sums(checks, increases, rounding), strict=True):
        found += more
    if plain and measures is not None:
        errors += _find_undefined(measures, columns)
        checks["label_gap"], doubts = _test_labels(columns)
        warnings += doubts
    if plain:
        checks["all_completions_z"], failed = _test_all_completions(columns, checks["noise_floor"])
        errors += failed
    if plain and measures is not None:
        checks["sampler_z"], failed, doubts = _test_sampler(measures)
        errors, warnings = [*errors, *failed], [*warnings, *doubts]
    return Findings(checks, tuple(errors), tuple(warnings))


def _judge_sums(checks: dict[str, float], increases: Increases, rounding: float) -> tuple[list[str], list[str]]:
    """Errors and warnings about the sums; comparisons are such that NaN fails them."""
    errors: list[str] = []
    warnings: list[str] = []
    zero = any(condition.is_neutral for condition in increases.conditions)
    if zero and not checks["noise_floor"] <= MAX_NOISE:
        errors.append(
            f"noise floor: multiplier 0 changes a completion by {checks['noise_floor']:.2g} nats (limit "
            f"{MAX_NOISE:g}): steered and unsteered scores do not come from the same computation; likely a model "
            "that treats the rows of a batch differently (random numbers in a layer, experts with a capacity), or "
            "numbers that are not finite; a low precision alone leaves it at 0: run completions-lp doctor"
        )
    gap = checks["sampler_gap"]
    typical = checks["sampler_gap_rms"]
    drawn = len(increases.completions) > 0
    if drawn and not gap <= WARN_GAP and not typical <= MOST_ROUNDING * rounding:
        (warnings if gap <= MAX_GAP else errors).append(
            f"sampled against scored log probs: they differ by {gap:.2g} nats in a completion (limit {MAX_GAP:g}); "
            "likely a low precision, or completions of another checkpoint, dtype or template"
        )
    return errors, warnings


def _test_sampler(measures: Measures) -> tuple[float, list[str], list[str]]:
    """Surprisal minus entropy over its error, pooled over prompts, and what that is as errors and warnings."""
    values, se = measures.unsteered["excess_surprisal"], measures.unsteered["excess_surprisal_se"]
    known = np.isfinite(values) & np.isfinite(se)
    if not known.any():
        return float("nan"), [], []
    mean = float(values[known].mean())
    z = mean / float(np.hypot(fixed_prompt_se(se[known]), RESOLUTION))
    if abs(z) <= WARN_Z:
        return z, [], []
    chance = 2 * ndtr(-WARN_Z)
    told = (
        f"sampler test: surprisal minus entropy is {mean:+.2g} nats a completion in place of 0 (z = {z:+.1f}; by "
        f"chance, {chance:.2%} of sound runs are beyond {WARN_Z:g}, and hardly any beyond {MAX_Z:g}, an error): the "
        "completions do not look drawn from the distribution that is scored; likely another temperature, top_p or "
        "top_k, another checkpoint or dtype, or text that was tokenised anew"
    )
    return (z, [told], []) if abs(z) > MAX_Z else (z, [], [told])


def _test_all_completions(columns: Columns, floor: float) -> tuple[float, list[str]]:
    """The largest t of the all-completions mean, and an error if one is above 0 beyond chance and rounding."""
    on = [i for i, condition in enumerate(columns.conditions) if not condition.is_neutral]
    values = columns.steered["increase_all"][on]
    t, p = mean_t(values, columns.clusters)
    tested = np.isfinite(p)
    if not tested.any():
        return float("nan"), []
    t = np.where(tested, t, -np.inf)
    mean = measure_spread(values, columns.clusters)[0]
    # Rivals are scored in passes of their own, whose rounding does not cancel.
    least = np.array([0.0 if columns.conditions[i].steers else RESOLUTION for i in on])
    least = np.fmax(least, floor if np.isfinite(floor) else 0.0)
    real = (t > MAX_T) & (p / 2 * len(on) < FALSE_ALARMS) & (mean > least)
    if not real.any():
        return float(t.max()), []
    worst = int(np.argmax(np.where(real, t, -np.inf)))
    c = columns.conditions[on[worst]]
    return float(t.max()), [
        f"all completions: their mean increase estimates −KL and cannot be above 0, but is {mean[worst]:+.2g} nats "
        f"(t = {t[worst]:.1f}) under {f'{c.vector}, ' * c.steers}{c.place}, and above 0 in "
        f"{int(real.sum())} of {len(on)} conditions; likely completions that were not drawn at temperature 1 from the "
        "model that is scored, or text that was tokenised anew"
    ]


def _test_labels(columns: Columns) -> tuple[float, list[str]]:
    """Mean of the share of target labels less P(A), and a warning if it is neither chance nor small."""
    gap = columns.unsteered["share_A"] - columns.unsteered["p_A"]
    mean, (t, p) = float(measure_spread(gap, columns.clusters)[0]), mean_t(gap, columns.clusters)
    if not (np.isfinite(p) and abs(t) > WARN_T and abs(mean) > MAX_LABEL_GAP):
        return mean, []
    labelled, told = (100 * np.nanmean(columns.unsteered[name]) for name in ("share_A", "p_A"))
    cause = "an answer that takes several tokens" if mean > 0 else "words that begin with the letter"
    return mean, [
        f"labels against tokens: {labelled:.1f} % of the completions are labelled with the target, but P(A) by the "
        f"tokens that complete it is {told:.1f} % (t = {t:+.1f} over prompts), and its changes may be off as "
        f"much; likely {cause}"
    ]


def _find_undefined(measures: Measures, columns: Columns) -> list[str]:
    """Measures that are NaN on some prompts though they were read, and though their log probs are numbers."""
    asked = columns.counts["n"] > 0
    known = asked & np.isfinite(measures.unsteered["p_A"])
    told = columns.steered["n_broken"] > 0
    steering = [i for i, condition in enumerate(columns.conditions) if condition.steers]  # a rival has none by nature
    broken = {
        "steered P(A)": _count_undefined(measures.steered["p_A_steered"], known & ~told, always=True),
        "KL": _count_undefined(measures.steered["kl"][steering], (asked & ~told)[steering]),
        "surprisal minus entropy": _count_undefined(
            measures.unsteered["excess_surprisal"][None], asked & ~told.any(0, keepdims=True)
        ),
    }
    return [
        f"{what} is not a finite number for {n} prompt x condition pairs, which are left out; likely an overflow in "
        'half precision: use [model] dtype = "float32", or smaller multipliers'
        for what, n in broken.items()
        if n
    ]


def _count_undefined(
    values: Float[np.ndarray, "condition prompt"], asked: Bool[np.ndarray, "condition prompt"], *, always: bool = False
) -> int:
    """How many of those asked for are no number; if none is a number, nothing was read."""
    finite = np.isfinite(values[asked])
    return int((~finite).sum()) if always or finite.any() else 0
