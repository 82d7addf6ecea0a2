"""A pilot's ``run.json`` and completions -> tokens, time and memory of a larger run, by what makes the engine's work.

Each prompt goes through the network once per stage; then every distinct beginning of its completions goes once when
they are sampled, and once more unsteered and under each condition when they are scored. So work grows with prompts and
with conditions in proportion, and with samples as slowly as new beginnings turn up. Imports numpy and scipy only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from jaxtyping import Int
from scipy.special import gammaln

from completions_lp.records import Completions, Condition, InputError, Through

STAGES = ("vector", "sample", "score", "choices", "report")
TOKEN_BYTES = 320
"""Host memory of a token of a distinct completion while they are sampled and written, measured."""
SCORE_BYTES = 320
"""Host memory of the scores of a distinct completion under one condition as a later command reads them, measured; while
a run makes them it is some 130."""
PART_BYTES = 2**29
"""Scores of single tokens that are held at once, at most: ``score.parts.PART`` numbers in float32."""


@dataclass(frozen=True)
class Cost:
    """What a stage takes, estimated."""

    stage: str
    tokens: float
    """Tokens that go through the network; NaN for a stage without it."""
    seconds: float
    memory: float
    """Peak of the process on the host, in GiB; NaN where the pilot did not measure its own."""


@dataclass(frozen=True, eq=False)
class Workload:
    """What the work of a run is made of, as its pilot had it."""

    n_prompts: int
    samples: int
    conditions: int
    """Of the run's own network; rivals do not grow with them."""
    rivals: int
    """Each reads its own prompts, taken for as long as the run's, and every completion once more."""
    whole: bool
    """Whether the prompt is steered too, and so scored under each condition."""
    prompt_tokens: float
    """Mean per prompt."""
    width: int
    """Tokens of the longest completion."""
    prefixes: Int[np.ndarray, " prefix"]
    """Draws through each distinct beginning of a prompt's completions, over all prompts."""
    scored: Mapping[Through, Int[np.ndarray, " prefix"]]
    """The same of what is scored of them, through each of their ends."""
    texts: Int[np.ndarray, " text"]
    """Draws of each distinct completion."""
    through: Through = "end"
    """How far they are scored."""
    seeds: int = 1
    """Among which the samples are: those of each are drawn by themselves."""

    @classmethod
    def of(cls, completions: Completions, conditions: Sequence[Condition], through: Through = "end") -> "Workload":
        """That of a run with these completions and conditions."""
        scored = {how: count_prefixes(completions, completions.count_scored(how)) for how in get_args(Through)}
        return cls(
            n_prompts=len(completions.prompts),
            samples=completions.sampling.draws,
            conditions=sum(condition.kind != "rival" for condition in conditions),
            rivals=sum(condition.kind == "rival" for condition in conditions),
            whole=any(condition.acts_on_prompt for condition in conditions),
            prompt_tokens=float(np.mean([len(prompt.token_ids) for prompt in completions.prompts])),
            width=completions.token_ids.shape[1],
            prefixes=scored["end"],
            scored=scored,
            texts=np.asarray(completions.counts, dtype=np.int64),
            through=through,
            seeds=max(1, len(completions.sampling.seeds)),
        )

    def weigh(self, stage: str, prompts: int, samples: int, conditions: int) -> float:
        """Work of a stage in tokens, but for padding and for the layers that a condition leaves out."""
        read = self.scored[self.through] if stage == "score" else self.prefixes
        nodes = self.count_distinct(read, samples)
        variants = 1 + conditions
        if stage == "vector":
            return 1.0
        if stage == "sample":  # by seed, each of which begins with the prompt
            each = self.count_distinct(read, max(1, -(-samples // self.seeds)))
            return prompts * self.seeds * (self.prompt_tokens + each)
        if stage == "report":
            return float(prompts * (conditions + self.rivals))
        nodes = nodes if stage == "score" else 1.0  # the two-choice read-out goes a token past the prompt
        alone = self.rivals * (self.prompt_tokens + nodes)
        return prompts * (
            alone + (variants * (self.prompt_tokens + nodes) if self.whole else self.prompt_tokens + variants * nodes)
        )

    def share_scored(self) -> dict[Through, float]:
        """Work of the score stage by how far completions are scored, as a share of scoring whole ones."""
        size = self.n_prompts, self.samples, self.conditions
        work = {how: replace(self, through=how).weigh("score", *size) for how in self.scored}
        return {how: tokens / work["end"] for how, tokens in work.items()}

    def hold(self, stage: str, prompts: int, samples: int, conditions: int) -> float:
        """Bytes that a stage holds at its peak and that grow with the run."""
        texts, conditions = prompts * self.count_distinct(self.texts, samples), conditions + self.rivals
        if stage == "sample":
            return texts * self.width * TOKEN_BYTES
        if stage == "score":
            return texts * conditions * SCORE_BYTES + min(PART_BYTES, 4 * 5 * texts * self.width * conditions)
        return 0.0

    def count_distinct(self, counts: Int[np.ndarray, " item"], samples: int) -> float:
        """Distinct items per prompt that this many samples are expected to show."""
        return expect_distinct(counts, self.samples, samples) / self.n_prompts


def count_prefixes(
    completions: Completions, lengths: Int[np.ndarray, " completion"] | None = None
) -> Int[np.ndarray, " prefix"]:
    """Draws through each distinct proper beginning of completions, by prompt, the empty one too: the nodes to run.

    Of their first ``lengths`` tokens, by default of all.
    """
    lengths = completions.lengths if lengths is None else lengths
    node = completions.prompt_index.astype(np.int64)
    counts = []
    for t in range(completions.token_ids.shape[1]):
        alive = np.flatnonzero(lengths > t)
        place = np.unique(node[alive], return_inverse=True)[1]
        counts.append(np.bincount(place, weights=completions.counts[alive]))
        pairs = np.stack([node, completions.token_ids[:, t].astype(np.int64)], axis=1)
        node = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
    return np.concatenate(counts).astype(np.int64)


def expect_distinct(counts: Int[np.ndarray, " item"], drawn: int, wanted: int) -> float:
    """How many distinct items ``wanted`` draws show, where ``drawn`` draws went through each ``counts`` times.

    For fewer draws than were made it is the exact mean over subsets, Σ 1 − C(drawn − c, wanted)/C(drawn, wanted)
    (Hurlbert 1971). For more, the geometric mean of two guesses: a power law with the pilot's last slope, the share of
    items met once (Good 1953), which errs upward as new items become rarer; and D + f₀ [1 − (1 − f₁/(drawn f₀ +
    f₁))^(wanted − drawn)] with Chao's f₀ unseen items, a lower bound (Colwell et al. 2012). From 25 to 100 draws of the
    embedded model it is 0.83 to 1.25 times the truth up to eight times the draws.
    """
    if wanted > drawn:
        return _extrapolate(counts, drawn, wanted)
    left = drawn - counts - wanted
    log_missed = gammaln(drawn - counts + 1) - gammaln(np.maximum(left, 0) + 1)
    log_missed += gammaln(drawn - wanted + 1) - gammaln(drawn + 1)
    return float((1 - np.where(left >= 0, np.exp(log_missed), 0.0)).sum())


def _extrapolate(counts: Int[np.ndarray, " item"], drawn: int, wanted: int) -> float:
    size, once, twice = len(counts), int((counts == 1).sum()), int((counts == 2).sum())
    if once == 0:
        return float(size)
    steep = size * (wanted / drawn) ** (once / size)
    unseen = (drawn - 1) / drawn * (once**2 / (2 * twice) if twice else once * (once - 1) / 2)
    flat = size + unseen * (1 - (1 - once / (drawn * unseen + once)) ** (wanted - drawn))
    return float(np.sqrt(steep * flat))


def forecast_costs(
    info: Mapping[str, Any], workload: Workload, *, prompts: int, samples: int, conditions: int | None = None
) -> tuple[Cost, ...]:
    """What each stage of a run of another size will take, on the pilot's machine.

    Tokens and seconds are those of the pilot (``info`` is its ``run.json``) times the growth of the stage's work; a
    small pilot's start-up is in its seconds, so that they err upward. Memory is the pilot's peak and what the run holds
    in addition; a pass keeps to its budget whatever the run's size. Prompts are as long as the pilot's, conditions by
    default as many.

    Raises:
        InputError: ``run.json`` does not have the timings of the stages.
    """
    timings, tokens = info.get("timings", {}), info.get("token_counts", {})
    missing = [stage for stage in ("sample", "score") if stage not in timings or stage not in tokens]
    if missing:
        raise InputError(f"run.json has no timing of the {missing[0]} stage: it takes a pilot that ran whole")
    before = (workload.n_prompts, workload.samples, workload.conditions)
    after = (prompts, samples, workload.conditions if conditions is None else conditions)
    costs = []
    for stage in (stage for stage in STAGES if stage in timings):
        growth = workload.weigh(stage, *after) / workload.weigh(stage, *before)
        used = tokens.get(stage, {}).get("tokens", 0) or float("nan")
        peak = info.get("memory", {}).get(stage, float("nan"))
        held = (workload.hold(stage, *after) - workload.hold(stage, *before)) / 2**30
        costs.append(Cost(stage, growth * used, growth * timings[stage], peak + max(held, 0.0)))
    return (*costs, *_forecast_sets(info, workload, samples))


def _forecast_sets(info: Mapping[str, Any], workload: Workload, samples: int) -> list[Cost]:
    """The off-target sets of the pilot, whose prompts stay as many; their draws grow unless they are given."""
    fixed = {one.get("name") for one in info.get("config", {}).get("off_target", ()) if one.get("n") is not None}
    size = workload.n_prompts, workload.conditions
    grown, before = (workload.weigh("score", size[0], n, size[1]) for n in (samples, workload.samples))
    costs = []
    for name, took in info.get("off_target", {}).items():
        growth = 1.0 if name in fixed else grown / before
        tokens = sum(spent.get("tokens", 0) for spent in took.get("token_counts", {}).values())
        seconds = sum(took.get("timings", {}).values())
        costs.append(Cost(f"off target: {name}", growth * tokens, growth * seconds, float("nan")))
    return costs
