"""Report -> the tables of ``report.md``, one per question: how much, compared with what, where, how sure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from completions_lp.quantities import HEADLINE, ODD, PRIMARY, find_quantity
from completions_lp.records import BASELINE, Condition, Estimate, Report, ReportRow, VectorQuality
from completions_lp.report.best import find_primary
from completions_lp.show.text.columns import (
    Show,
    count,
    limits,
    list_columns,
    numbers,
    p_values,
    place_columns,
    tell,
    trust,
    values,
)
from completions_lp.show.text.numbers import DASH, Lookup, format_estimate, format_number
from completions_lp.show.text.off_target import OFF_TARGET, OFF_TARGET_WORDS, list_off_target
from completions_lp.show.text.rivals import RIVALS, RIVALS_WORDS, list_rivals, say_cell
from completions_lp.show.text.tables import Column
from completions_lp.show.text.vectors import VECTORS, VECTORS_WORDS, list_vectors
from completions_lp.show.text.words import MARK


@dataclass(frozen=True)
class Block:
    """A table with its heading."""

    heading: str
    words: str
    """What its columns share, and those that are no quantity."""
    columns: Sequence[Column]
    quantities: tuple[str, ...] = ()
    """Behind its columns, each explained where it first stands."""


_GLANCE = (
    f"Each line is a *cell*: a layer to which the vector is added, with a multiplier; `{MARK}` marks the best one. "
    f"*Prompts* counts those behind *{find_quantity(HEADLINE).head}*; *noise*, in nats, is how far the "
    "arithmetic may move it: the same number in the mean of a small direction's two signs."
)
_RIVAL = " A rival, another prompt or another model, has neither layer nor multiplier."
_CONTROLS = (
    "*Odd part* is [f(m) − f(−m)]/2, in which second-order damage cancels. *Random* is the same number under random "
    "directions of the same norm (in another unit, of the same dose); p-values are one-sided, towards what the "
    "multiplier's sign promises."
)
_SWEEP = (
    "*Band of all cells* covers all means at once (max-T, approximate); *max-T* and *Holm* allow for all cells, *BH* "
    "is for a list to explore; *best in* is how often a cell is the best when clusters are resampled."
)
_ALL_CHOICES = (
    "*PrefOdds*: log odds of the target against all other choices. *UtilOdds*: log odds of the *mass*, the probability "
    "of all choices, against everything else. *Greedy*: how often the likeliest choice is the matching one."
)
_SUM = "The first three sum to the increase of the whole, and so do in the reasoning, in the answer, and after it."
_READ = (
    "What would be answered right behind the reasoning, means over reasonings, then over prompts. *Answer steered*: "
    "unsteered reasonings, read by the steered model. *Reasoning steered*: reasonings of the steered model, by "
    "weights, read by the unsteered one. The change is the sum of what comes by the answer and by the reasoning."
)
_SLOPES = (
    "Least-squares slope over the multipliers, prompt by prompt, per unit of multiplier; *below 0* is the share of "
    "prompts with a slope below 0, sampling noise shrunken away."
)

SWAPS = "Behaviour or letter"
SWAPS_WORDS = (
    "Questions that were asked in both orders, letters in place and texts exchanged. *Behaviour* is what goes with the "
    "matching answer whatever its letter, *letter* with the first of the two letters whatever it says (and with its "
    "place), *common* with both answers alike; behaviour + common is the mean of the effect on the matching answer. "
    "Means over *pairs*, those on which both answers' effects are defined in both orders; intervals are over clusters."
)

QUALITY = {
    "norm": "norm",
    "± s.e.": "norm_se",
    "split-half cosine": "split_half_cosine",
    "pair cosine": "pair_cosine",
    "d′": "d_prime",
    "lens accuracy": "lens_accuracy",
    "lens log odds": "lens_odds",
}
"""Columns of the table of a vector's quality, and the fields behind them."""
_ALWAYS = ("norm", "± s.e.", "split-half cosine")
_QUALITY = (
    "How well a vector of so many pairs is known, and what is said to predict where it steers. *Pair cosine*: of the "
    "pairs' differences with their mean; *d′*: how far the two sides lie apart along the vector, in standard "
    "deviations, each pair held out (Braun et al. 2025). *Lens accuracy* (A_lin, Billa 2026): share of pairs at which "
    "this layer's stream, read by final norm and head right before the answer, has the positive answer as the "
    "likeliest token; *lens log odds*, nats: of the positive against the negative answer there, on average."
)


def list_blocks(report: Report, quality: Mapping[int, VectorQuality]) -> list[Block]:
    """Every block that has something to show."""
    steered = [c for c in list_shown(report) if not c.is_neutral]
    cells = [c for c in steered if c.steers]
    primary = find_primary(report)
    found = [
        _make(report, list_shown(report), "At a glance", _GLANCE + _RIVAL * (cells != steered), list_first(report)),
        _make(report, steered, "How much", _HOW_MUCH, _MUCH),
        _make(report, steered, "The average increase and its bound", _AVERAGE, _INCREASES),
        _make(report, steered, "Whole completions and divergences", "Intervals of KL are bootstrap-t.", _WHOLE),
        _make(report, steered, "The two-choice read-out", "One forward pass, no sampling.", _CHOICES),
        _make(report, steered, "All choices of the read-out", _ALL_CHOICES, _ODDS),
        _make(report, steered, "Where the gain is", _SUM if report.through == "end" else "", _PLACES),
        _make(report, steered, "At the end of the reasoning", _READ + _tell_unsteered(report), _READINGS),
        _make(report, cells, "Controls", _CONTROLS + _rank_sweep(report), _list_controls(primary), least=2),
        _make(report, cells, "The sweep", _SWEEP, _list_sweep(primary), least=2),
        Block("Dose and response", _SLOPES, _list_slopes(report)),
        Block(RIVALS, " ".join(filter(None, [RIVALS_WORDS, say_cell(report)])), list_rivals(report)),
        Block(VECTORS, VECTORS_WORDS, list_vectors(report)),
        Block(OFF_TARGET, OFF_TARGET_WORDS, list_off_target(report)),
        Block(SWAPS, SWAPS_WORDS, list_swaps(report)),
        Block("The vector", _QUALITY, list_quality(quality)),
    ]
    return [block for block in found if block.columns]


def list_shown(report: Report) -> list[Condition]:
    """The conditions with a line of their own, by layer and multiplier: random and shuffled ones are told together."""
    conditions = list(dict.fromkeys(row.condition for row in report.rows if row.condition.kind != "baseline"))
    shown = [c for c in conditions if c.kind not in ("random", "shuffled")] or conditions
    names = list(dict.fromkeys((c.vector, c.positions) for c in shown))
    return sorted(shown, key=lambda c: (names.index((c.vector, c.positions)), c.layers, c.multiplier))


def list_first(report: Report) -> list[Show]:
    """What a reader needs first."""
    known = any(row.quantity == PRIMARY for row in report.rows)
    return [*(_FIRST if known else _WITHOUT_MEASURES), *_CHOICE, count(HEADLINE)]


def list_quality(quality: Mapping[int, VectorQuality]) -> list[Column]:
    """How well the vector is known, layer by layer; what no layer has is left out."""
    if not quality:
        return []
    layers = sorted(quality)
    columns = {head: [getattr(quality[i], name) for i in layers] for head, name in QUALITY.items()}
    known = {h: found for h, found in columns.items() if h in _ALWAYS or not np.isnan(found).all()}
    cells = [Column(h, tuple(DASH if np.isnan(x) else f"{x:.3f}" for x in found)) for h, found in known.items()]
    return [Column("layer", tuple(map(str, layers))), *cells]


def format_quality_line(quality: Mapping[int, VectorQuality]) -> str:
    """The same in one line: the weakest layer speaks for all, but for what predicts where steering works."""
    if not quality:
        return "Vector: read from a file that does not say how well it is known."
    cosine, layer = min((q.split_half_cosine, layer) for layer, q in quality.items())
    worst, at = max((q.norm_se / q.norm if q.norm else np.nan, layer) for layer, q in quality.items())
    error = f"standard error of its norm at most {worst:.1%} (layer {at})"
    told = ""
    apart = {layer: q.d_prime for layer, q in quality.items() if not np.isnan(q.d_prime)}
    if apart:
        low, high = min(apart, key=apart.__getitem__), max(apart, key=apart.__getitem__)
        told = f"; held-out d′ from {apart[low]:.2f} (layer {low}) to {apart[high]:.2f} (layer {high})"
    return f"Vector: split-half cosine at least {cosine:.3f} (layer {layer}); {error}{told}."


_ROUNDING = tell("noise", HEADLINE, lambda row: _tell_rounding(row))
_FIRST = [*numbers(PRIMARY, "share_red", HEADLINE), _ROUNDING, *values("log_ratio_A", "kl_per_token")]
_WITHOUT_MEASURES = [*numbers(HEADLINE), _ROUNDING, *values("increase_A", "increase_not_A", "increase_all")]
_CHOICE = values("logit_diff_change", "mass_steered")


def _tell_rounding(row: ReportRow) -> str:
    """How far rounding may move the headline, to one digit."""
    bound = row.inference.rounding
    return "" if np.isnan(bound) else f"{bound:.0e}" if bound < 5e-3 else f"{bound:.2f}"


_HOW_MUCH = (
    "*Marginal* is the change of the logit of the mean P(A) (jackknife). Last come the percent of prompts by how far "
    "P(A) can be trusted, and how many prompts there are."
)
_MUCH = [*values("p_A_steered"), *numbers(PRIMARY, "log_ratio_A"), *numbers("delta_logit_A", weighting="marginal")]
_MUCH += [*values("log_odds_change_A_B", "answered_steered"), trust(), count(PRIMARY)]
_AVERAGE = "*Micro* pools completions instead of averaging prompts."
_INCREASES = [*numbers(HEADLINE, "increase_to_answer_A_rb"), *values("log_ratio_A", "bound_gap")]
_INCREASES += [*numbers("increase_to_answer_not_A"), *values("difference_A_not_A")]
_INCREASES += [*values(HEADLINE, weighting="micro"), count(HEADLINE)]
_WHOLE = [*numbers("increase_A"), *values("increase_not_A", "increase_all")]
_WHOLE += [*numbers("kl", "kl_per_token"), *values("kl_reverse")]
_CHOICES = [*values("logit_diff", "logit_diff_steered"), *numbers("logit_diff_change"), *values("mass", "mass_steered")]
_ODDS = [*numbers("pref_odds_steered", "util_odds_steered"), *values("p_choice_steered", "mass_steered")]
_ODDS += [*values("greedy", "greedy_steered"), *numbers("logit_diff_whole_change")]
_PLACES = [*numbers("before_answer_A", "at_answer_A"), *values("after_answer_A")]
_PLACES += [*values("in_reasoning_A", "in_answer_A"), *numbers("answer_share", "reasoning_share")]
_READINGS = [*values("read_A_answer_only", "read_A_reasoning_only", "read_A_steered")]
_READINGS += [*numbers("read_A_change", "read_A_by_answer", "read_A_by_reasoning")]
_READINGS += values("read_mass_answer_only", "read_red")


def _list_controls(quantity: str) -> list[Show]:
    """The best-known quantity beside the opposite sign, random directions and shuffled labels."""

    def spread(row: ReportRow) -> str:
        mean, sd = (format_number(x, row.estimate.unit) for x in (row.inference.random_mean, row.inference.random_sd))
        return "" if mean == DASH else f"{mean} ± {sd.removeprefix('+')}"

    shows = [
        *values(quantity),
        *(numbers(f"{quantity}_odd") if quantity in ODD else ()),
        tell("random mean ± sd", quantity, spread),
    ]
    shows.append(limits("random band", quantity, "random_low", "random_high"))
    ranks = {"rank p": "p_rank", "predictive p": "p_predictive", "shuffled rank p": "p_rank_shuffled"}
    return [*shows, *p_values(quantity, ranks)]


def _list_sweep(quantity: str) -> list[Show]:
    """What still stands when all cells have been looked at."""

    def best_in(row: ReportRow) -> str:
        share = row.inference.selection_frequency
        return "" if np.isnan(share) else f"{share:.0%}"

    shows = [*numbers(quantity), limits("band of all cells", quantity, "band_low", "band_high")]
    shows.append(limits("bootstrap-t", quantity, "boot_low", "boot_high"))
    p = {"p": "p_t", "flips": "p_signflip", "max-T": "p_max_t", "Holm": "p_holm", "BH": "p_bh"}
    return [*shows, *p_values(quantity, p), tell("best in", quantity, best_in)]


def _rank_sweep(report: Report) -> str:
    rank = report.checks.get("p_rank_sweep", float("nan"))
    return "" if np.isnan(rank) else f" Rank p of the whole sweep, every direction at its own best cell: {rank:.3f}."


def _tell_unsteered(report: Report) -> str:
    """What is read without steering."""
    lookup = Lookup.of(report)
    rows = {"P(A)": lookup.find(BASELINE, "read_A"), "the mass on all choices": lookup.find(BASELINE, "read_mass")}
    told = [f"{words} {format_estimate(row.estimate)}" for words, row in rows.items() if row is not None]
    return f" Unsteered: {', '.join(told)}." if told else ""


def _list_slopes(report: Report) -> list[Column]:
    """Dose and response, one line per layer and quantity."""
    slopes = [s for s in report.slopes if s.kind not in ("random", "shuffled")]
    if not slopes:
        return []
    below = (DASH if np.isnan(s.below_zero) else f"{s.below_zero:.0%}" for s in slopes)
    return [
        Column("vector", tuple(s.vector for s in slopes), foreign=True),
        Column("layer", tuple(s.layers or str(s.layer) for s in slopes)),
        Column("quantity", tuple(find_quantity(s.quantity).head for s in slopes)),
        Column("slope", tuple(format_estimate(s.estimate) for s in slopes)),
        Column("below 0", tuple(below)),
        Column("prompts", tuple(str(s.estimate.n) for s in slopes)),
        Column("multipliers", tuple(" ".join(f"{m:g}" for m in s.multipliers) for s in slopes)),
    ]


def list_swaps(report: Report) -> list[Column]:
    """What follows the behaviour and what the letter, one line per condition and quantity; none without such pairs."""
    found: dict[tuple[Condition, str], dict[str, Estimate]] = {}
    for swap in report.swaps:
        found.setdefault((swap.condition, swap.quantity), {})[swap.part] = swap.estimate
    shown = [key for condition in list_shown(report) for key in found if key[0] == condition]
    if not shown:
        return []
    conditions, parts = [condition for condition, _ in shown], [found[key] for key in shown]
    vectors = Column("vector", tuple(c.vector for c in conditions), foreign=True)

    def tell_part(name: str) -> Column:
        return Column(name, tuple(format_estimate(part[name]) if name in part else "" for part in parts))

    return [
        *([vectors] if len(set(vectors.cells)) > 1 else []),
        *place_columns(conditions),
        Column("quantity", tuple(find_quantity(quantity).head for _, quantity in shown)),
        *map(tell_part, ("behaviour", "letter", "common")),
        Column("pairs", tuple(str(part["behaviour"].n) for part in parts)),
    ]


def _make(
    report: Report, conditions: Sequence[Condition], heading: str, words: str, shows: Sequence[Show], *, least: int = 1
) -> Block:
    """A block of some conditions; without columns where fewer than ``least`` of them have numbers."""
    columns, shown = list_columns(report, conditions, shows)
    known = tuple(dict.fromkeys(show.quantity for show in shown if show.quantity))
    return Block(heading, words, columns if len(shown) >= least and conditions else [], known)
