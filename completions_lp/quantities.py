"""Every number of the report, defined once: its name, unit, words and place.

Tables, axes, captions, the page and the documentation take their words, units and order from here. ``A`` in a name
stands for the target answer, whatever its letter, and ``{A}`` in a label is replaced by what it stands for; ``B`` is
the answer that it is compared with. A name is written out where the number is computed, and nowhere else.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from completions_lp.records import InputError, Through

Noise = Literal["", "none", "probability", "completions"]
Pool = Literal["", "A", "not_A", "all"]


@dataclass(frozen=True)
class Unit:
    """A unit, and how numbers in it are written."""

    name: str
    decimals: int
    signed: bool = False
    """Whether direction matters: written with its sign."""
    percent: bool = False


_UNITS = (
    *(Unit("pp", 2, signed=True), Unit("nats", 3, signed=True), Unit("nats/token", 4), Unit("probability", 3)),
    *(Unit("share", 0, percent=True), Unit("draws", 1), Unit("tokens", 1), Unit("ratio", 2)),
)
UNITS: Mapping[str, Unit] = MappingProxyType({unit.name: unit for unit in _UNITS})
"""By name: percentage points, natural logarithms of probabilities, and counts."""


@dataclass(frozen=True)
class Quantity:
    """One number of the report."""

    name: str
    unit: str
    head: str
    """Of a column of a text table."""
    label: str
    """Of an axis, a row or a menu."""
    group: str
    meaning: str
    """A sentence or two for who has not read the documentation."""
    latex: str = ""
    """Head of a LaTeX column; P and P' are the unsteered and steered probability of the target answer."""
    noise: Noise = ""
    """How a prompt's own value is known: exactly (``none``), with the error of P(A), with that of a mean over its
    completions, or not."""
    swept: bool = False
    """Whether a sweep is judged by it: simultaneous bands, adjusted p-values, random directions, best cell."""
    skewed: bool = False
    """Whether a t interval covers too rarely, so that it is bootstrap-t."""
    pooled: Pool = ""
    """Over which completions it is also pooled (weighting ``micro``)."""
    odd: bool = False
    """Whether it is also given as ``NAME_odd``, [f(m) − f(−m)]/2, which even-order damage does not touch."""
    summarized: bool = True
    """Whether the summary has its mean over prompts; else it stands in the per-prompt tables alone."""
    whole: bool = False
    """Whether it is over all tokens of completions, and so missing where they are not scored through their end."""

    @property
    def decimals(self) -> int:
        """Digits after the point, as people read it."""
        return UNITS[self.unit].decimals

    @property
    def signed(self) -> bool:
        """Whether it is written with its sign."""
        return UNITS[self.unit].signed


EFFECT, PROBABILITY, PARTS, OTHERS = "The effect", "Probability of the answer", "Parts of the increase", "Other texts"
DAMAGE, CHOICE, TRUSTED, SIGNS = "Damage", "Two-choice read-out", "How far to trust it", "Both signs together"
SAMPLE = "The completions"
GROUPS = (EFFECT, PROBABILITY, PARTS, OTHERS, DAMAGE, CHOICE, TRUSTED, SIGNS, SAMPLE)
"""In the order in which they are shown."""
PRIMARY = "delta_p_A"
"""The estimand: the change of P(A within the window), in percentage points."""
HEADLINE = "increase_to_answer_A"
"""The average log-prob increase through the answer's token: a lower bound on the log ratio of P(A)."""
BROKEN = "share_broken"
"""Share of the prompts with log probs that are no finite numbers: where it is above 0, a cell has no other number."""
TRUST = ("certified", "green", "red")
"""How far P(A) under steering can be trusted on a prompt, from best to worst."""

# fmt: off
_LIST = (
    Quantity(PRIMARY, "pp", "ΔP(A) pp", "change of P({A})", EFFECT,
        latex=r"$\Delta P$", noise="probability", swept=True, odd=True,
        meaning="Steered minus unsteered probability of giving the target answer within the window, in percentage "
        "points."),
    Quantity("log_ratio_A", "nats", "log ratio", "log ratio of P({A})", EFFECT,
        latex=r"$\log P'/P$", noise="probability", swept=True, odd=True,
        meaning="Log of steered over unsteered probability of the target answer, mean over prompts."),
    Quantity(HEADLINE, "nats", "to the answer", "log-prob increase of {A} completions,\nto the answer", EFFECT,
        latex="increase, answer given", noise="completions", pooled="A", swept=True, odd=True,
        meaning="Mean log-prob increase of the completions that gave the target answer, up to and including the "
        "answer's token. A lower bound on the log ratio of the answer's probability."),
    Quantity("increase_to_answer_A_rb", "nats", "next token averaged",
        "log-prob increase of {A} completions,\nto the answer (averaged)", EFFECT,
        meaning="The increase to the answer with less sampling noise: the next token is averaged out at every step."),
    Quantity("increase_A", "nats", "whole, A", "log-prob increase of {A} completions", EFFECT,
        noise="completions", pooled="A", whole=True,
        meaning="Mean log-prob increase of the completions that gave the target answer, over all their tokens. What "
        "comes after the answer can only lower it."),
    Quantity("p_A", "probability", "P(A)", "P({A})", PROBABILITY, latex="$P$",
        meaning="Probability that the unsteered model gives the target answer within the window."),
    Quantity("p_A_low", "probability", "P(A) at least", "P({A}), proven lower bound", PROBABILITY,
        meaning="What the visited texts prove of the unsteered probability of the target answer."),
    Quantity("p_A_high", "probability", "P(A) at most", "P({A}), proven upper bound", PROBABILITY,
        meaning="What the visited texts prove of the unsteered probability of the target answer."),
    Quantity("p_A_steered", "probability", "P(A) steered", "P({A}), steered", PROBABILITY,
        latex="$P'$", noise="probability",
        meaning="Probability that the steered model gives the target answer within the window, estimated from the "
        "unsteered draws, and from steered ones where they were drawn."),
    Quantity("p_A_steered_low", "probability", "steered, at least", "P({A}), steered, proven lower bound", PROBABILITY,
        meaning="What the visited texts prove of the steered probability of the target answer."),
    Quantity("p_A_steered_high", "probability", "steered, at most", "P({A}), steered, proven upper bound", PROBABILITY,
        meaning="What the visited texts prove of the steered probability of the target answer."),
    Quantity("delta_logit_A", "nats", "Δlogit", "change of logit P({A})", PROBABILITY,
        latex=r"$\Delta\,\mathrm{logit}\,P$", noise="probability",
        meaning="Change of the log odds of giving the target answer."),
    Quantity("bound_gap", "nats", "gap", "log ratio less increase to the answer", PROBABILITY,
        meaning="Log ratio minus the averaged increase to the answer: how loose the bound is."),
    Quantity("first_A", "probability", "A first", "P({A} first)", PROBABILITY,
        meaning="Probability that the target answer comes before the other one, unsteered."),
    Quantity("first_B", "probability", "B first", "P(other answer first)", PROBABILITY,
        meaning="Probability that the other answer comes before the target one, unsteered."),
    Quantity("first_A_steered", "probability", "A first, steered", "P({A} first), steered", PROBABILITY,
        meaning="Probability that the target answer comes before the other one, steered."),
    Quantity("first_B_steered", "probability", "B first, steered", "P(other answer first), steered", PROBABILITY,
        meaning="Probability that the other answer comes before the target one, steered."),
    Quantity("answered", "probability", "answered", "P(either answer)", PROBABILITY,
        meaning="Probability that either answer is given within the window, unsteered."),
    Quantity("answered_steered", "probability", "answered", "P(either answer), steered", PROBABILITY,
        meaning="Probability that either answer is given within the window, steered."),
    Quantity("log_odds_change_A_B", "nats", "log A:B", "change of the log odds, {A} to the other answer", PROBABILITY,
        meaning="Change of the log odds that the target answer comes first against the other one, over completions."),
    Quantity("log_odds_change_answered", "nats", "log answered", "change of the log odds that either answer is given",
        PROBABILITY,
        meaning="Change of the log odds that either answer is given within the window, over completions."),
    Quantity("before_answer_A", "nats", "before the answer", "log-prob increase before the answer", PARTS,
        noise="completions",
        meaning="Log-prob increase of the tokens before the answer's, in completions with the target answer."),
    Quantity("at_answer_A", "nats", "at its token", "log-prob increase at the answer", PARTS, noise="completions",
        meaning="Log-prob increase of the answer's own token."),
    Quantity("after_answer_A", "nats", "after it", "log-prob increase after the answer", PARTS, noise="completions",
        whole=True,
        meaning="Log-prob increase of the tokens after the answer's."),
    Quantity("answer_share", "nats", "answer share", "change of logit P({A}) due to the answer", PARTS,
        meaning="What of the change of the answer's logit is due to the answer's own token (Shapley value)."),
    Quantity("reasoning_share", "nats", "reasoning share", "change of logit P({A}) due to the text before", PARTS,
        meaning="What of the change of the answer's logit is due to the text before the answer (Shapley value)."),
    Quantity("increase_to_answer_not_A", "nats", "not A", "log-prob increase of other completions,\nto the answer",
        OTHERS, latex="increase, not given", noise="completions", pooled="not_A",
        meaning="Mean log-prob increase of the completions without the target answer, up to their own answer or the "
        "end of the window."),
    Quantity("increase_not_A", "nats", "whole, not A", "log-prob increase of other completions", OTHERS,
        noise="completions", pooled="not_A", whole=True,
        meaning="Mean log-prob increase of the completions without the target answer, over all their tokens."),
    Quantity("increase_all", "nats", "whole, all", "log-prob increase of all completions", OTHERS,
        noise="completions", pooled="all", whole=True,
        meaning="Mean log-prob increase of all completions: an estimate of −KL, at most 0 up to noise."),
    Quantity("difference_A_not_A", "nats", "A − not A", "increase of {A} less that of others", OTHERS,
        noise="completions",
        meaning="Increase to the answer minus that of the completions without the target answer."),
    Quantity("kl", "nats", "KL(p‖q)", "KL(unsteered ‖ steered)", DAMAGE, latex=r"$\mathrm{KL}$", skewed=True,
        whole=True,
        meaning="Kullback–Leibler divergence KL(unsteered ‖ steered) per completion: what steering changes in all."),
    Quantity("kl_reverse", "nats", "KL(q‖p)", "KL(steered ‖ unsteered)", DAMAGE, skewed=True, whole=True,
        meaning="Kullback–Leibler divergence KL(steered ‖ unsteered) per completion."),
    Quantity("kl_per_token", "nats/token", "KL/token", "KL(unsteered ‖ steered) per token", DAMAGE,
        latex=r"$\mathrm{KL}$", skewed=True, whole=True,
        meaning="KL(unsteered ‖ steered) of a completion over its mean number of tokens."),
    Quantity("logit_diff", "nats", "logit diff, unsteered", "two-choice logit diff", CHOICE, noise="none",
        meaning="Log prob of the target answer minus the other's at the first answer position, unsteered."),
    Quantity("logit_diff_steered", "nats", "logit diff, steered", "two-choice logit diff, steered", CHOICE,
        noise="none",
        meaning="Log prob of the target answer minus the other's at the first answer position, steered."),
    Quantity("logit_diff_change", "nats", "logit diff", "change of the two-choice logit diff", CHOICE,
        latex=r"$\Delta$ logit diff", noise="none", swept=True,
        meaning="Steered minus unsteered two-choice logit diff: one forward pass, no sampling, the first answer "
        "position only."),
    Quantity("logit_diff_whole", "nats", "whole answers, unsteered", "logit diff of whole answers", CHOICE,
        noise="none",
        meaning="Log prob of all tokens of the target answer, as the file writes it, minus the other's, unsteered."),
    Quantity("logit_diff_whole_steered", "nats", "whole answers, steered", "logit diff of whole answers, steered",
        CHOICE, noise="none",
        meaning="Log prob of all tokens of the target answer, as the file writes it, minus the other's, steered."),
    Quantity("logit_diff_whole_change", "nats", "whole answers", "change of the logit diff of whole answers", CHOICE,
        noise="none",
        meaning="Steered minus unsteered logit diff of whole answers."),
    Quantity("p_choice", "probability", "P(A) of said, unsteered", "P({A} given any choice)", CHOICE, noise="none",
        meaning="Probability of the target answer at the first answer position, given that one of the choices is said, "
        "unsteered."),
    Quantity("p_choice_steered", "probability", "P(A) of said", "P({A} given any choice), steered", CHOICE,
        noise="none",
        meaning="Probability of the target answer at the first answer position, given that one of the choices is said, "
        "steered."),
    Quantity("delta_p_choice", "pp", "ΔP(A) of said", "change of P({A} given any choice)", CHOICE, noise="none",
        meaning="Steered minus unsteered probability of the target answer, given that one of the choices is said, in "
        "percentage points."),
    Quantity("pref_odds", "nats", "PrefOdds, unsteered", "PrefOdds", CHOICE, noise="none",
        meaning="Log odds of the target answer against all other choices at the first answer position, unsteered."),
    Quantity("pref_odds_steered", "nats", "PrefOdds", "PrefOdds, steered", CHOICE, noise="none",
        meaning="Log odds of the target answer against all other choices at the first answer position, steered."),
    Quantity("pref_odds_change", "nats", "ΔPrefOdds", "change of PrefOdds", CHOICE, noise="none",
        meaning="Steered minus unsteered log odds of the target answer against all other choices; with two choices the "
        "change of the logit diff."),
    Quantity("util_odds", "nats", "UtilOdds, unsteered", "UtilOdds", CHOICE, noise="none",
        meaning="Log odds of the mass on all choices against everything else that could be said there, unsteered."),
    Quantity("util_odds_steered", "nats", "UtilOdds", "UtilOdds, steered", CHOICE, noise="none",
        meaning="Log odds of the mass on all choices against everything else that could be said there, steered."),
    Quantity("util_odds_change", "nats", "ΔUtilOdds", "change of UtilOdds", CHOICE, noise="none",
        meaning="Steered minus unsteered log odds of the mass on all choices against everything else."),
    Quantity("mass", "probability", "mass, unsteered", "probability of all choices", CHOICE, noise="none",
        meaning="Mass: the probability of all choices together at the first answer position, unsteered."),
    Quantity("mass_steered", "probability", "mass", "probability of all choices, steered", CHOICE, noise="none",
        meaning="Mass: the probability of all choices together at the first answer position, steered."),
    Quantity("greedy", "probability", "greedy, unsteered", "greedy choice matches the behaviour", CHOICE,
        noise="none",
        meaning="Accuracy of the greedy choice: whether the likeliest choice is the one that matches the behaviour, "
        "unsteered. Choices that tie share it."),
    Quantity("greedy_steered", "probability", "greedy", "greedy choice matches the behaviour, steered", CHOICE,
        noise="none",
        meaning="Accuracy of the greedy choice: whether the likeliest choice is the one that matches the behaviour, "
        "steered. Choices that tie share it."),
    Quantity("share_certified", "share", "certified", "prompts certified", TRUSTED,
        meaning="Share of the prompts whose steered probability lies within narrow proven bounds."),
    Quantity("share_green", "share", "green", "prompts green", TRUSTED,
        meaning="Share of the prompts whose steered probability rests on enough effective draws."),
    Quantity("share_red", "share", "red", "prompts red", TRUSTED,
        meaning="Share of the prompts whose steered probability is not to be trusted."),
    Quantity(BROKEN, "share", "broken", "prompts with log probs that are not finite", TRUSTED,
        meaning="Share of the prompts with a log prob that is no finite number. Where there is one, the cell has no "
        "other number; where there is none anywhere, no row."),
    Quantity(f"below_zero_{PRIMARY}", "share", "wrong way", "prompts steered the wrong way", TRUSTED,
        meaning="Share of the prompts whose probability of the target answer truly falls, sampling noise shrunken "
        "away."),
    Quantity("ess", "draws", "effective draws", "effective draws", TRUSTED,
        meaning="Smallest effective number of draws over the steps that trust is judged by."),
    Quantity("mean_weight_low", "ratio", "mean weight, least", "smallest mean weight", TRUSTED,
        meaning="Smallest mean weight over steps; it should be near 1."),
    Quantity("mean_weight_high", "ratio", "mean weight, most", "largest mean weight", TRUSTED,
        meaning="Largest mean weight over steps; it should be near 1."),
    Quantity("n_steered", "draws", "steered draws", "draws of the steered model", TRUSTED,
        meaning="Draws of the steered model that joined the estimate of P(A)."),
    Quantity("n_broken", "draws", "broken", "draws with log probs that are not finite", TRUSTED, summarized=False,
        meaning="Draws, and answers of the two-choice read-out, whose log prob is no finite number, steered or not: "
        "with one, nothing else is known of the prompt there."),
    Quantity("p_A_se", "probability", "P(A) s.e.", "standard error of P({A})", TRUSTED, summarized=False,
        meaning="Standard error of the unsteered P(A) on a prompt, from its own completions."),
    Quantity("p_A_steered_se", "probability", "steered s.e.", "standard error of P({A}), steered", TRUSTED,
        summarized=False,
        meaning="Standard error of the steered P(A) on a prompt, from its own completions."),
    Quantity("p_A_change_se", "probability", "change s.e.", "standard error of the change of P({A})", TRUSTED,
        summarized=False,
        meaning="Standard error of the change of P(A) on a prompt, both from the same draws; missing where others "
        "joined."),
    Quantity("share_A", "probability", "share with A", "share of draws with {A}", SAMPLE,
        meaning="Share of the unsteered draws that gave the target answer."),
    Quantity("n_tokens", "tokens", "tokens", "tokens per completion", SAMPLE,
        meaning="Mean number of tokens of an unsteered draw."),
    Quantity("excess_surprisal", "nats", "excess surprisal", "surprisal less entropy", SAMPLE, whole=True,
        meaning="Mean over draws of surprisal minus entropy: 0 in expectation where draws come from the distribution "
        "scored."),
    Quantity("excess_surprisal_se", "nats", "excess s.e.", "standard error of surprisal less entropy", SAMPLE,
        summarized=False, whole=True,
        meaning="Standard error of the excess surprisal of a prompt, from its own completions."),
    Quantity("n", "draws", "n", "draws", SAMPLE, summarized=False,
        meaning="Unsteered draws of the prompt."),
    Quantity("n_unique", "draws", "distinct", "distinct completions", SAMPLE, summarized=False,
        meaning="Distinct ones of them."),
    Quantity("n_A", "draws", "with A", "draws with {A}", SAMPLE, summarized=False,
        meaning="Those that gave the target."),
)
# fmt: on

QUANTITIES: Mapping[str, Quantity] = MappingProxyType({quantity.name: quantity for quantity in _LIST})
"""By name, in the order in which tables have them."""
SWEPT = tuple(quantity.name for quantity in _LIST if quantity.swept)
"""What a sweep is judged by, the first of them first."""
WHOLE = tuple(quantity.name for quantity in _LIST if quantity.whole)
"""What is over all tokens of completions."""
SKEWED = tuple(quantity.name for quantity in _LIST if quantity.skewed)
POOLED: Mapping[str, Pool] = MappingProxyType({q.name: q.pooled for q in _LIST if q.pooled})
"""Also as ``micro``, pooled over completions; the value says over which."""
ODD = tuple(quantity.name for quantity in _LIST if quantity.odd)
_ODD = "_odd"


def find_quantity(name: str) -> Quantity:
    """The definition of a number, also of a ``NAME_odd``.

    Raises:
        InputError: There is no such quantity; the nearest is named.
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    stem = name.removesuffix(_ODD)
    if stem in ODD:
        whole = QUANTITIES[stem]
        meaning = f"Half the difference between m and −m times the vector: even damage cancels. {whole.meaning}"
        return Quantity(name, whole.unit, "odd part", f"{whole.label}, odd part", SIGNS, meaning)
    near = difflib.get_close_matches(name, QUANTITIES, n=1, cutoff=0)[0]
    raise InputError(f"no quantity {name!r}; the nearest is {near!r}. All of them: {', '.join(QUANTITIES)}")


def list_missing(through: Through) -> tuple[str, ...]:
    """Quantities that a report has not where its completions are scored so far."""
    return () if through == "end" else WHOLE


def name_unit(quantity: str) -> str:
    """The unit of a quantity."""
    return find_quantity(quantity).unit


def rank_quantity(name: str) -> int:
    """Its place in the order in which tables have quantities; odd parts come last."""
    return _ORDER[name]


_ORDER = {name: place for place, name in enumerate([*QUANTITIES, *(f"{name}{_ODD}" for name in ODD)])}
