"""The immutable records that flow through the package, and the checks that make them valid.

Every record is a frozen dataclass on the CPU; its arrays are read-only numpy arrays. Axes are always in the order
``condition, prompt, completion, token``. Log probs are in nats. NaN marks what is undefined or masked, so that a
forgotten mask shows; undefined is never zero. A missing interval is ``None``, never one of zero width.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

Kind = Literal["baseline", "target", "negated", "random", "shuffled", "orthogonal"]
Positions = Literal["completion", "all"]
Rule = Literal["letter", "token", "substring", "regex"]


class InputError(ValueError):
    """The input is wrong: the message says what was got, what was needed and what to do. Exit code 2."""


@runtime_checkable
class Tokenizer(Protocol):
    """What this package uses of a transformers tokenizer outside ``model``."""

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Any:
        """Encode ``text``; the result's ``input_ids`` are its token ids."""

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> Any:
        """The text of one sequence of token ids."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _freeze(record: object, *names: str) -> None:
    """Make the named arrays of a record read-only, as views: the caller's own arrays stay as they were."""
    for name in names:
        view = np.asarray(getattr(record, name)).view()
        view.flags.writeable = False
        object.__setattr__(record, name, view)


@dataclass(frozen=True)
class Prompt:
    """One two-choice question as the model is asked it."""

    id: str
    """Names the prompt and its random stream: the file's own ``id``, or a hash of the text."""
    text: str
    token_ids: tuple[int, ...]
    letters: tuple[str, ...]
    """The answers on offer, as a model writes them: ``("A", "B")``, or ``("No", "Yes")``."""
    matching: str
    """The letter that goes with the behaviour."""
    not_matching: str
    cluster: str
    """The unit of resampling: the prompt itself unless the file has a ``cluster`` field."""
    answer_format: str = " ({letter})"
    """How the file writes an answer after the text; where the two-choice read-out finds the answer's token."""

    def __post_init__(self) -> None:
        where = f"prompt {self.id!r}"
        _require(len(self.token_ids) > 0, f"{where}: no tokens; a prompt needs at least one")
        for letter in (self.matching, self.not_matching):
            _require(letter in self.letters, f"{where}: answer {letter!r} is not one of its letters {self.letters}")
        _require(self.matching != self.not_matching, f"{where}: both answers are {self.matching!r}")

    def other(self, letter: str) -> str:
        """The answer that ``letter`` is compared with in the two-choice read-out."""
        return self.not_matching if letter == self.matching else self.matching


@dataclass(frozen=True)
class ContrastPair:
    """Two texts that differ in the behaviour, each with the index of the token at which it is read."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    positive_index: int
    negative_index: int


@dataclass(frozen=True)
class VectorQuality:
    """How well a mean over n pairs is known, at one layer."""

    norm: float
    norm_se: float
    """Standard error of the norm (delta method); NaN for a single pair."""
    split_half_cosine: float
    """Mean cosine between the means of two random halves of the pairs; NaN for a single pair."""


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """One direction per layer; layer L is the 0-based block to whose *output* the vector is added."""

    name: str
    kind: Kind
    directions: Mapping[int, Float[np.ndarray, " d_model"]]
    quality: Mapping[int, VectorQuality] = field(default_factory=dict)
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.name != "", "a steering vector needs a name")
        _require(len(self.directions) > 0, f"vector {self.name!r} has no layers")
        frozen = {}
        for layer, direction in sorted(self.directions.items()):
            where = f"vector {self.name!r}, layer {layer}"
            _require(direction.ndim == 1, f"{where}: needs one axis (d_model), got shape {direction.shape}")
            _require(bool(np.isfinite(direction).all()), f"{where}: has values that are not finite")
            frozen[layer] = direction.view()
            frozen[layer].flags.writeable = False
        sizes = {d.shape[0] for d in frozen.values()}
        _require(len(sizes) == 1, f"vector {self.name!r}: layers of different sizes {sorted(sizes)}")
        object.__setattr__(self, "directions", MappingProxyType(frozen))

    @property
    def d_model(self) -> int:
        """Size of the residual stream that the vector fits."""
        return int(next(iter(self.directions.values())).shape[0])


@dataclass(frozen=True)
class Condition:
    """What is done to the model: ``multiplier`` times a vector added at the output of block ``layer``."""

    vector: str
    kind: Kind
    layer: int
    multiplier: float
    positions: Positions = "completion"

    def __post_init__(self) -> None:
        _require(bool(np.isfinite(self.multiplier)), f"multiplier {self.multiplier} is not a finite number")
        _require(
            self.positions in get_args(Positions),
            f"positions {self.positions!r} is none of {', '.join(get_args(Positions))}",
        )


BASELINE = Condition(vector="", kind="baseline", layer=-1, multiplier=0.0)
"""The unsteered model."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. The defaults are plain ancestral sampling, whatever the checkpoint's own settings."""

    n: int = 100
    """Draws per prompt; greedy decoding makes one."""
    max_new_tokens: int = 24
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 keeps every token."""
    greedy: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.n >= 1, f"sampling n is {self.n}; at least 1 completion per prompt is needed")
        _require(self.max_new_tokens >= 1, f"max_new_tokens is {self.max_new_tokens}; at least 1 is needed")
        _require(
            0 < self.temperature < np.inf,
            f"temperature is {self.temperature}; it must be above 0 (for the most likely token use greedy = true)",
        )
        _require(0 < self.top_p <= 1, f"top_p is {self.top_p}; it must be above 0 and at most 1 (1 turns it off)")
        _require(self.top_k >= 0, f"top_k is {self.top_k}; it must be at least 0 (0 turns it off)")
        _require(self.seed >= 0, f"seed is {self.seed}; it must be at least 0")

    @property
    def draws(self) -> int:
        """Completions drawn per prompt."""
        return 1 if self.greedy else self.n

    @property
    def is_ancestral(self) -> bool:
        """Whether draws come from the very distribution that is scored."""
        return not self.greedy and self.temperature == 1 and self.top_p == 1 and self.top_k == 0


@dataclass(frozen=True)
class Labelling:
    """When a completion counts as having given an answer; see ``labels``."""

    rule: Rule = "letter"
    within: int = 10
    """Only the first ``within`` tokens decide."""
    pattern: str = ""
    """For ``rule = "regex"``: a regular expression in which ``{letter}`` stands for the answer."""

    def __post_init__(self) -> None:
        _require(self.rule in get_args(Rule), f"label rule {self.rule!r} is none of {', '.join(get_args(Rule))}")
        _require(self.within >= 1, f"label within is {self.within}; at least 1 token is needed")
        _require(
            (self.rule == "regex") == bool(self.pattern),
            "label pattern goes with rule = \"regex\", and only with it; for example '(?i)answer is \\(?{letter}\\b'",
        )
        _require(
            not self.pattern or "{letter}" in self.pattern,
            f"label pattern {self.pattern!r} does not say where the answer stands: write {{letter}} there",
        )
        try:
            re.compile(self.pattern.replace("{letter}", "A"))
        except re.error as error:
            raise InputError(f"label pattern {self.pattern!r} is not a regular expression: {error}") from None


@dataclass(frozen=True, eq=False)
class Completions:
    """Distinct completions of the unsteered model, as exact token ids with counts. Rows are grouped by prompt."""

    prompts: tuple[Prompt, ...]
    prompt_index: Int[np.ndarray, " completion"]
    token_ids: Int[np.ndarray, "completion token"]
    """Padded with -1."""
    lengths: Int[np.ndarray, " completion"]
    counts: Int[np.ndarray, " completion"]
    ended: Bool[np.ndarray, " completion"]
    """Whether the last id is an end-of-sequence token that was generated (and is scored)."""
    label: Any
    """[completion] strings: the letter, or ``"none"``."""
    answer_index: Int[np.ndarray, " completion"]
    """0-based index of the token that completes the answer, or -1."""
    logprob: Float[np.ndarray, "completion token"]
    """Unsteered log prob of each token at temperature 1, from the pass that drew it, in nats; NaN past the end."""
    text: tuple[str, ...]
    """For people only; never tokenised again."""
    sampling: Sampling
    labelling: Labelling

    def __post_init__(self) -> None:
        _freeze(self, "prompt_index", "token_ids", "lengths", "counts", "ended", "label", "answer_index", "logprob")
        n = len(self.prompt_index)
        for name in ("token_ids", "lengths", "counts", "ended", "label", "answer_index", "logprob", "text"):
            got = len(getattr(self, name))
            _require(got == n, f"completions: {name} has {got} rows where prompt_index has {n}")
        ids = [p.id for p in self.prompts]
        repeated = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
        _require(not repeated, f"prompt ids must be unique; repeated: {', '.join(repeated[:5])}")
        _require(n == 0 or int(self.lengths.min()) >= 1, "completions: every completion needs at least one token")
        _require(n == 0 or int(self.counts.min()) >= 1, "completions: every count must be at least 1")
        index = self.prompt_index
        _require(
            n == 0 or bool(index.min() >= 0 and index.max() < len(self.prompts)),
            "completions: prompt_index out of range",
        )

    def __len__(self) -> int:
        return len(self.prompt_index)

    @property
    def mask(self) -> Bool[np.ndarray, "completion token"]:
        """True at the tokens that are there."""
        return np.asarray(np.arange(self.token_ids.shape[1]) < self.lengths[:, None])


@dataclass(frozen=True, eq=False)
class Scores:
    """Log prob of every token of every completion, unsteered and under every condition, in nats."""

    completions: Completions
    conditions: tuple[Condition, ...]
    baseline: Float[np.ndarray, "completion token"]
    """Unsteered, by the same code path as the steered rows; NaN past a completion's end."""
    logprob: Float[np.ndarray, "condition completion token"]
    entropy: Float[np.ndarray, "completion token"] | None = None
    """Entropy of the unsteered distribution of each token; with ``kl``."""
    kl: Float[np.ndarray, "condition completion token"] | None = None
    """KL(unsteered || steered) of each token's distribution; None where it was left out."""
    kl_reverse: Float[np.ndarray, "condition completion token"] | None = None
    """KL(steered || unsteered)."""
    baseline_answers: Float[np.ndarray, "completion token 2"] | None = None
    """Unsteered log prob that this token completes the target answer, and the other one; -inf where no token would."""
    answers: Float[np.ndarray, "condition completion token 2"] | None = None
    """The same under each condition; None where no target was given or no single token decides (a regex)."""

    def __post_init__(self) -> None:
        shape = self.completions.token_ids.shape
        steered = (len(self.conditions), *shape)
        want = {"baseline": shape, "entropy": shape, "baseline_answers": (*shape, 2)}
        want |= {"logprob": steered, "kl": steered, "kl_reverse": steered, "answers": (*steered, 2)}
        for name, needed in want.items():
            if getattr(self, name) is not None:
                _freeze(self, name)
                got = getattr(self, name).shape
                _require(got == needed, f"scores: {name} has shape {got}, needs {needed}")
        _require(len(set(self.conditions)) == len(self.conditions), "scores: a condition occurs twice")

    @property
    def increase(self) -> Float[np.ndarray, "condition completion token"]:
        """Steered minus unsteered log prob of each token, in nats."""
        return np.asarray(self.logprob - self.baseline)


@dataclass(frozen=True, eq=False)
class Increases:
    """Scores summed over tokens: the log-prob increase of every completion, whole and in parts, in nats, float64."""

    completions: Completions
    conditions: tuple[Condition, ...]
    baseline: Float[np.ndarray, " completion"]
    """Unsteered log prob of the whole completion."""
    increase: Float[np.ndarray, "condition completion"]
    """Steered minus unsteered, over all tokens, an end-of-sequence token included."""
    increase_to_answer: Float[np.ndarray, "condition completion"]
    """Through the token that completes the answer; without an answer, through the end of the window or the text."""
    before_answer: Float[np.ndarray, "condition completion"]
    at_answer: Float[np.ndarray, "condition completion"]
    after_answer: Float[np.ndarray, "condition completion"]
    """Before, at and after the answer's token: they sum to ``increase``, and are NaN without an answer."""

    PARTS = ("increase", "increase_to_answer", "before_answer", "at_answer", "after_answer")

    def __post_init__(self) -> None:
        _freeze(self, "baseline", *self.PARTS)
        want = (len(self.conditions), len(self.completions))
        for name in self.PARTS:
            got = getattr(self, name).shape
            _require(got == want, f"increases: {name} has shape {got}, needs {want}")
        _require(self.baseline.shape == want[1:], f"increases: baseline has shape {self.baseline.shape}")

    @property
    def logprob(self) -> Float[np.ndarray, "condition completion"]:
        """Steered log prob of the whole completion."""
        return np.asarray(self.baseline + self.increase)


@dataclass(frozen=True, eq=False)
class Choices:
    """The two-choice read-out: log probs of the two answers at the first answer position, without ``generate``."""

    prompts: tuple[Prompt, ...]
    letters: tuple[tuple[str, str], ...]
    """By prompt: the target answer and the one it is compared with."""
    conditions: tuple[Condition, ...]
    baseline: Float[np.ndarray, "prompt 2"]
    logprob: Float[np.ndarray, "condition prompt 2"]

    def __post_init__(self) -> None:
        _freeze(self, "baseline", "logprob")
        want = (len(self.conditions), len(self.prompts), 2)
        _require(self.logprob.shape == want, f"choices: logprob has shape {self.logprob.shape}, needs {want}")
        _require(
            self.baseline.shape == want[1:], f"choices: baseline has shape {self.baseline.shape}, needs {want[1:]}"
        )


@dataclass(frozen=True)
class Estimate:
    """A number with its uncertainty. ``low`` and ``high`` are both ``None`` where no interval exists."""

    value: float
    low: float | None
    high: float | None
    level: float
    unit: str
    n: int
    """Prompts behind the number."""
    n_clusters: int
    method: str


@dataclass(frozen=True)
class ReportRow:
    """One number of the paper."""

    condition: Condition
    quantity: str
    weighting: str
    estimate: Estimate
    n_dropped: int
    """Prompts for which the quantity is undefined."""


@dataclass(frozen=True, eq=False)
class Report:
    """What follows from the scores: ``rows`` are the numbers of the paper, ``prompts`` what they are means of."""

    target: str
    rows: tuple[ReportRow, ...]
    prompts: Mapping[str, Any]
    """Columns of the per-prompt table, each ``[condition * prompt]``."""
    checks: Mapping[str, float]
    warnings: tuple[str, ...] = ()

    def estimate(self, quantity: str, condition: Condition, *, weighting: str = "macro") -> Estimate:
        """The estimate of one quantity in one condition."""
        for row in self.rows:
            if row.quantity == quantity and row.condition == condition and row.weighting == weighting:
                return row.estimate
        known = sorted({row.quantity for row in self.rows})
        raise InputError(f"no {weighting} estimate of {quantity!r} for {condition}; quantities: {', '.join(known)}")

    def table(self, quantity: str, *, kind: Kind | None = "target") -> Sequence[ReportRow]:
        """All rows of one quantity, for one kind of vector or (``None``) all."""
        return [r for r in self.rows if r.quantity == quantity and kind in (None, r.condition.kind)]
