"""What was said, and how it was drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from completions_lp.records.base import InputError, Through, freeze, require
from completions_lp.records.labelling import Labelling
from completions_lp.records.prompts import Prompt

MOST_DRAWS = 1_000_000
"""Of one prompt, also to top up."""
MOST_TOKENS = 100_000_000
"""Draws of a prompt times tokens of each: the random numbers of a prompt, which are drawn at once."""
MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. The defaults are plain ancestral sampling, whatever the checkpoint's own settings."""

    n: int = 100
    """Draws per prompt; greedy decoding makes one. Of several seeds, each makes as many."""
    max_new_tokens: int = 24
    """A completion that has not ended by then is cut there."""
    temperature: float = 1.0
    """1 is the model's own distribution, the only one of which P(A) can be estimated."""
    top_p: float = 1.0
    """Nucleus sampling; 1 turns it off."""
    top_k: int = 0
    """0 keeps every token."""
    greedy: bool = False
    """The most likely token at every step, in place of draws."""
    seed: int = 0
    """Of the draws, the controls and the resamples; the first of ``seeds`` where there are several."""
    top_up: int = 0
    """Draws of the steered model, per prompt, where the unsteered ones do not suffice for P(A); 0 turns it off."""
    seeds: tuple[int, ...] = ()
    """Several seeds in place of one, for example [0, 1, 2]: n draws per prompt of each, pooled, and how far the numbers
    differ between them. The controls, the resamples and the top-up are of the first."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "seeds", tuple(self.seeds))
        require(self.n >= 1, f"sampling n is {self.n}; at least 1 completion per prompt is needed")
        require(self.max_new_tokens >= 1, f"max_new_tokens is {self.max_new_tokens}; at least 1 is needed")
        for name in ("n", "top_up"):
            require(
                getattr(self, name) <= MOST_DRAWS,
                f"sampling {name} is {getattr(self, name)}; at most {MOST_DRAWS} are drawn",
            )
        require(
            self.draws * self.max_new_tokens <= MOST_TOKENS,
            f"n x max_new_tokens is {self.draws} x {self.max_new_tokens}; the product is at most {MOST_TOKENS}",
        )
        self._check_seeds()
        require(
            0 < self.temperature < np.inf,
            f"temperature is {self.temperature}; it must be above 0 (for the most likely token use greedy = true)",
        )
        require(0 < self.top_p <= 1, f"top_p is {self.top_p}; it must be above 0 and at most 1 (1 turns it off)")
        require(
            1e-4 <= self.temperature <= 1e4,
            f"temperature is {self.temperature}; it must be from 0.0001 to 10000 (for the most likely token use "
            "greedy = true)",
        )
        require(self.top_k >= 0, f"top_k is {self.top_k}; it must be at least 0 (0 turns it off)")
        require(self.top_k < 2**31, f"top_k is {self.top_k}; it must be below {2**31} (0 turns it off)")
        require(self.top_up >= 0, f"top_up is {self.top_up}; it must be at least 0 (0 turns it off)")
        require(
            not self.top_up or self.is_ancestral,
            f"top_up is {self.top_up}: draws of the steered model are pooled with plain samples only; leave "
            "temperature, top_p and top_k at 1, 1 and 0 and greedy off, or top_up at 0",
        )

    def _check_seeds(self) -> None:
        """Check the seed, or the seeds; of these the first is the seed."""
        for seed in (self.seed, *self.seeds):
            require(seed >= 0, f"seed is {seed}; it must be at least 0")
            require(seed <= MOST_SEED, f"seed is {seed}; it must be at most {MOST_SEED}")
        if not self.seeds:
            return
        listed = list(self.seeds)
        require(
            not self.greedy, f"seeds is {listed}, and greedy decoding is the same for every seed; leave one of them out"
        )
        twice = [seed for seed in self.seeds if listed.count(seed) > 1]
        require(not twice, f"seeds is {listed}: {twice[:1]} twice would draw the same completions again; name it once")
        require(
            self.seed in (0, self.seeds[0]),
            f"seed is {self.seed} and seeds is {listed}; give one of the two: seed for one seed, seeds for several",
        )
        object.__setattr__(self, "seed", self.seeds[0])
        require(
            self.draws <= MOST_DRAWS,
            f"n x seeds is {self.n} x {len(listed)}; at most {MOST_DRAWS} are drawn of a prompt",
        )

    @property
    def draws(self) -> int:
        """Completions drawn per prompt, of all seeds."""
        return 1 if self.greedy else self.n * max(1, len(self.seeds))

    def split(self) -> tuple["Sampling", ...]:
        """The same by seed: as if each had been alone."""
        return tuple(replace(self, seed=seed, seeds=()) for seed in self.seeds) or (self,)

    @property
    def is_ancestral(self) -> bool:
        """Whether draws come from the very distribution that is scored."""
        return not self.greedy and self.temperature == 1 and self.top_p == 1 and self.top_k == 0


@dataclass
class Draw:
    """One distinct completion of a prompt as it was drawn, and the samples that drew it."""

    token_ids: Sequence[int]
    logprob: Sequence[float]
    """Of each token at temperature 1, in nats."""
    samples: Sequence[int]
    """Numbers of the samples, in order; every one has random numbers of its own."""
    ended: bool = False
    """Whether the last id is an end-of-sequence token."""
    sampler_logprob: Sequence[float] | None = None
    """Of each token under what it was drawn from, in nats; None where that is ``logprob``: plain sampling."""


@dataclass(frozen=True, eq=False, repr=False)
class Completions:
    """Distinct completions of a model, unsteered unless said, as exact token ids with counts, grouped by prompt."""

    prompts: tuple[Prompt, ...]
    prompt_index: Int[np.ndarray, " completion"]
    token_ids: Int[np.ndarray, "completion token"]
    """Padded with -1."""
    lengths: Int[np.ndarray, " completion"]
    counts: Int[np.ndarray, " completion"]
    ended: Bool[np.ndarray, " completion"]
    """Whether the last id is an end-of-sequence token that was generated (and is scored)."""
    label: Any
    """[completion] strings: the letter, or ``""`` where no answer was given."""
    answer_index: Int[np.ndarray, " completion"]
    """0-based index of the token that completes the answer, or -1."""
    logprob: Float[np.ndarray, "completion token"]
    """Log prob of each token at temperature 1 under the model that said it, from the pass that drew it, in nats; NaN
    past the end."""
    text: tuple[str, ...]
    """For people only; never tokenised again."""
    pieces: tuple[tuple[str, ...], ...]
    """The part of the text that each token wrote; together they are the text."""
    sampling: Sampling
    labelling: Labelling
    reasoning: Int[np.ndarray, " completion"] | None = None
    """Tokens of each that are reasoning, its first ones, see ``sample.reasoning``; None where that is not known."""
    sampler_logprob: Float[np.ndarray, "completion token"] | None = None
    """Log prob of each token under the distribution that it was drawn from: after temperature, top-k and top-p, its
    kept part summing to 1; 0 where decoding is greedy. None where it is ``logprob``: plain sampling."""
    seed_counts: Int[np.ndarray, "completion seed"] | None = None
    """How often each was drawn by each of ``sampling.seeds``, in their order: ``counts`` is their sum. None where there
    are no several seeds, or where draws of no seed among them have joined."""

    def __repr__(self) -> str:
        return f"Completions({len(self)} distinct of {int(self.counts.sum())} draws, {len(self.prompts)} prompts)"

    def __post_init__(self) -> None:
        freeze(self, "prompt_index", *self._arrays)
        n = len(self.prompt_index)
        for name in (*self._arrays, "text", "pieces"):
            got = len(getattr(self, name))
            require(got == n, f"completions: {name} has {got} rows where prompt_index has {n}")
        wanted = {"sampler_logprob": self.token_ids.shape, "seed_counts": (n, len(self.sampling.seeds))}
        for name in (name for name in wanted if name in self._arrays):
            got, want = getattr(self, name).shape, wanted[name]
            require(got == want, f"completions: {name} has shape {got}, needs {want}")
        if self.seed_counts is not None:
            same = bool((self.seed_counts >= 0).all() and (self.seed_counts.sum(1) == self.counts).all())
            require(same, "completions: seed_counts do not add up to the counts")
        ids = [p.id for p in self.prompts]
        repeated = sorted({i for i in ids if ids.count(i) > 1}) if len(set(ids)) < len(ids) else []
        require(not repeated, f"prompt ids must be unique; repeated: {', '.join(repeated[:5])}")
        require(n == 0 or int(self.lengths.min()) >= 1, "completions: every completion needs at least one token")
        require(n == 0 or int(self.counts.min()) >= 1, "completions: every count must be at least 1")
        index = self.prompt_index
        inside = n == 0 or bool(index.min() >= 0 and index.max() < len(self.prompts))
        require(inside, "completions: prompt_index out of range")

    def __len__(self) -> int:
        return len(self.prompt_index)

    @property
    def _arrays(self) -> tuple[str, ...]:
        """The arrays with a row for each completion, beside ``prompt_index``."""
        known = ("token_ids", "lengths", "counts", "ended", "label", "answer_index", "logprob")
        further = ("reasoning", "sampler_logprob", "seed_counts")
        return (*known, *(name for name in further if getattr(self, name) is not None))

    @property
    def window(self) -> int:
        """Tokens of a completion, the first ones, that decide its label."""
        return self.labelling.size_window(self.sampling.max_new_tokens)

    def rows_of(self, prompt: int) -> Int[np.ndarray, " row"]:
        """The rows of one prompt, by its index."""
        return np.flatnonzero(self.prompt_index == prompt)

    def select(self, prompts: Sequence[int]) -> "Completions":
        """Those of some prompts, in the order in which they are named."""
        order = np.argsort(self.prompt_index, kind="stable")
        ends = np.searchsorted(self.prompt_index[order], np.arange(len(self.prompts) + 1))
        found = [order[ends[i] : ends[i + 1]] for i in prompts]
        rows, sizes = np.concatenate([order[:0], *found]), [len(some) for some in found]
        return self._keep(prompts, rows, np.repeat(np.arange(len(prompts), dtype=np.int32), sizes))

    def take(self, rows: Sequence[int]) -> "Completions":
        """Some rows, in this order, with their prompts alone, those in the order in which they first come."""
        index = self.prompt_index[list(rows)]
        prompts = list(dict.fromkeys(index.tolist()))
        places = {prompt: i for i, prompt in enumerate(prompts)}
        return self._keep(prompts, rows, np.array([places[i] for i in index.tolist()], dtype=np.int32))

    def of_seed(self, seed: int) -> "Completions":
        """Those that one of the seeds drew, by its number among ``sampling.seeds``, of the same prompts.

        They are the completions of a run with that seed alone, in the order in which they stand here.
        """
        if self.seed_counts is None:
            raise InputError("completions: how often each seed drew them is not known; draw with [sampling] seeds")
        rows = np.flatnonzero(self.seed_counts[:, seed])
        kept = self._keep(range(len(self.prompts)), rows, self.prompt_index[rows])
        counts = self.seed_counts[rows, seed].astype(np.int32)
        return replace(kept, counts=counts, seed_counts=None, sampling=self.sampling.split()[seed])

    def find_rows(self, parts: Sequence["Completions"]) -> Int[np.ndarray, " completion"]:
        """The row of each completion among those of some parts, of consecutive prompts, one after the other.

        Raises:
            InputError: The parts are not of these completions.
        """
        starts = np.cumsum([0, *(len(part.prompts) for part in parts)])
        index = np.concatenate([part.prompt_index + k for part, k in zip(parts, starts[:-1], strict=True)])
        same = np.array_equal(np.sort(index), np.sort(self.prompt_index))
        require(same, "parts of other completions do not join")
        # The rows of a prompt come in the same order in both; prompts may be mingled in the whole.
        rows = np.empty(len(index), dtype=np.int64)
        rows[np.argsort(self.prompt_index, kind="stable")] = np.argsort(index, kind="stable")
        return rows

    def _keep(self, prompts: Sequence[int], rows: Any, index: Int[np.ndarray, " row"]) -> "Completions":
        return replace(
            self,
            prompts=tuple(self.prompts[i] for i in prompts),
            prompt_index=index,
            text=tuple(self.text[i] for i in rows),
            pieces=tuple(self.pieces[i] for i in rows),
            **{name: getattr(self, name)[rows] for name in self._arrays},
        )

    def offered(self, target: str) -> Bool[np.ndarray, " prompt"]:
        """Which prompts offer the target answer: a letter, or ``"matching"`` for each prompt's own."""
        return np.array([prompt.offers(target) for prompt in self.prompts], dtype=bool)

    def hits(self, target: str) -> Bool[np.ndarray, " completion"]:
        """Which completions gave the target answer, among those of prompts that offer it."""
        wanted = np.array([prompt.pair(target)[0] for prompt in self.prompts], dtype=object)
        hit = np.asarray(self.label == wanted[self.prompt_index], dtype=bool)
        return np.asarray(hit & self.offered(target)[self.prompt_index])

    def count_scored(self, through: Through) -> Int[np.ndarray, " completion"]:
        """Tokens of each completion that are scored: through its ``"end"``, the ``"window"``, or its ``"answer"``.

        Without an answer it is the window even so; and never more than there are. An answer lies within the window. By
        a rule that is no first passage the window decides the label, and so it is scored in place of the answer.

        Raises:
            InputError: It is none of the three.
        """
        require(through in get_args(Through), f"through is {through!r}; it is one of {', '.join(get_args(Through))}")
        if through == "end":
            return self.lengths
        scored = np.minimum(self.lengths, self.window)
        if through == "answer" and self.labelling.is_first_passage:
            scored = np.where(self.answer_index >= 0, self.answer_index + 1, scored)
        return np.asarray(scored, dtype=self.lengths.dtype)

    @property
    def mask(self) -> Bool[np.ndarray, "completion token"]:
        """True at the tokens that are there."""
        return np.asarray(np.arange(self.token_ids.shape[1]) < self.lengths[:, None])
