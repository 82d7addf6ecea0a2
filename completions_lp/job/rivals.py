"""Rivals at work: the very same completions under another prompt or another model, in units of their own.

A rival is a condition like others in every table. What is behind it is a pass without any steering: of the same token
ids after the rival's own prompt, or through its own network. So its units stand on that prompt's tokens and on that
network, whatever the rival is called.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.checkpoint import check_length, locate, read_shape
from completions_lp.checkpoint.vocabulary import check_tokenizers
from completions_lp.job.network import Network
from completions_lp.job.outset import load_asked
from completions_lp.job.rival import RivalSection
from completions_lp.prompts import first_difference
from completions_lp.records import (
    BASELINE,
    Choices,
    Completions,
    Condition,
    Draw,
    InputError,
    Prompt,
    Sampling,
    SteeringVector,
    TokenScores,
)
from completions_lp.score.places import Place
from completions_lp.store import hash_value
from completions_lp.work.keys import describe_prompt
from completions_lp.work.requests import DrawRequest, ReadRequest, ScoreRequest
from completions_lp.work.units import Units

Scored = tuple[TokenScores, Float[np.ndarray, "place choice"], Float[np.ndarray, "condition place choice"]]


class Rival:
    """A rival, opened when it is first needed."""

    def __init__(
        self,
        section: RivalSection,
        network: Network,
        load: Callable[[RivalSection], Sequence[Prompt]],
        own: Callable[[], Sequence[Prompt]],
    ) -> None:
        self.section = section
        self.network = network
        """The run's own, or another."""
        self._load, self._own = load, own

    @cached_property
    def prompts(self) -> Mapping[str, tuple[Prompt, Prompt]]:
        """By id, each of the run's prompts, and as the rival is asked it; empty where it is asked the same."""
        if not self.section.asks:
            return {}
        own, asked = self._own(), self._load(self.section)
        if len(own) != len(asked):  # which rows are left out hangs on their answers, and these on no key of a rival
            raise InputError(f"{self.where}: {len(asked)} prompts where the run has {len(own)}")
        return {
            prompt.id: (
                prompt,
                replace(
                    prompt,
                    text=other.text,
                    token_ids=other.token_ids,
                    answer_format=prompt.answer_format and other.answer_format,
                ),
            )
            for prompt, other in zip(own, asked, strict=True)
        }

    @property
    def where(self) -> str:
        """What it is called in messages."""
        return f"[[rival]] {self.section.name!r}"

    def ask(self, prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
        """Prompts of the run as the rival is asked them."""
        if not self.section.asks:
            return tuple(prompts)
        changed = [p.id for p in prompts if p.id not in self.prompts or self.prompts[p.id][0].token_ids != p.token_ids]
        if changed:
            raise InputError(
                f"{self.where} asks the questions of [prompts] path once more, and {changed[0]!r} is not there as it "
                "was sampled: run the sample stage again"
            )
        return tuple(self.prompts[prompt.id][1] for prompt in prompts)

    def ask_again(self, completions: Completions, places: Sequence[Place]) -> tuple[Completions, list[Place]]:
        """Completions of the run, and places in them, after the rival's own prompts."""
        asked = self.ask([place.prompt for place in places])
        there = [replace(place, prompt=prompt) for place, prompt in zip(places, asked, strict=True)]
        return replace(completions, prompts=self.ask(completions.prompts)), there

    def check(self, run: Network, *, target: str, max_new_tokens: int) -> None:
        """Raise InputError for another tokenizer, or prompts that do not fit or do not tell their answers apart."""
        if self.network is not run:
            check_tokenizers(self.where, run.tokenizer, self.network.tokenizer)
        asked = self.ask(self._own())
        section = self.network.section
        shape = read_shape(locate(section.name, section.revision))
        for prompt in asked:
            if shape is not None:
                check_length(shape, prompt, len(prompt.token_ids), max_new_tokens)
            if prompt.is_read_out:
                first_difference(prompt, prompt.pair(target)[0], run.tokenizer)

    def hash(self, run: Network) -> str:
        """Stands for all that its numbers depend on, beside the completions."""
        asked = [describe_prompt(prompt) for _, prompt in self.prompts.values()]
        return hash_value([asked, None if self.network is run else self.network.describe_network()])


def open_rivals(sections: Sequence[RivalSection], run: Any, known: Mapping[str, Any]) -> tuple[Rival, ...]:
    """The rivals of a run (its ``Inputs``); ``known`` is what it has recorded of their networks, by name."""

    def open_network(section: RivalSection) -> Network:
        own: Network = run
        if section.model is None:
            return own
        of = {"name": section.model, "revision": section.revision}
        of |= {} if own.section.remote else {"dtype": own.network["dtype"]}
        asked = own.section.model_copy(update=of)
        return Network(asked, known.get(section.name), lead=own)

    def load(section: RivalSection) -> Sequence[Prompt]:
        return load_asked(run.config, section, run.tokenizer)

    return tuple(Rival(section, open_network(section), load, lambda: run.prompts) for section in sections)


@dataclass
class RivalUnits(Units):
    """Units of a run with rivals: what is asked under a rival's condition is done by units of the rival's own."""

    rivals: Mapping[str, Rival] = field(default_factory=dict)
    """By name."""

    def draw(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        vectors: Sequence[SteeringVector] = (),
        condition: Condition = BASELINE,
        **options: Any,
    ) -> list[list[Draw]]:
        """As of ``Units``; what a rival says to its own prompts."""
        if condition.kind != "rival":
            return super().draw(prompts, sampling, vectors=vectors, condition=condition, **options)
        rival = self.rivals[condition.vector]
        return self._open(rival).draw(rival.ask(prompts), sampling, condition=condition, **options)

    def ask_draws(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        vectors: Sequence[SteeringVector] = (),
        condition: Condition = BASELINE,
    ) -> list[DrawRequest]:
        """What ``draw`` asks of the network, or of that of a rival."""
        if condition.kind != "rival":
            return super().ask_draws(prompts, sampling, vectors=vectors, condition=condition)
        rival = self.rivals[condition.vector]
        return self._open(rival).ask_draws(rival.ask(prompts), sampling, condition=condition)

    def ask_scores(
        self,
        completions: Completions,
        places: Sequence[Place],
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        *,
        kl: bool = False,
        **options: Any,
    ) -> list[ScoreRequest]:
        """What ``score_places`` asks, of all networks."""
        steering, rivals = _split(conditions)
        alone = kl and bool(steering or not rivals)
        found = super().ask_scores(
            completions, places, vectors, steering or [BASELINE] if rivals else conditions, kl=alone, **options
        )
        for condition in rivals:
            rival = self.rivals[condition.vector]
            asked, there = rival.ask_again(completions, places)
            found += self._open(rival).ask_scores(asked, there, (), [condition], **options)
        return found

    def ask_choices(
        self,
        prompts: Sequence[Prompt],
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        *,
        target: str,
    ) -> list[ReadRequest]:
        """What ``read`` asks, of all networks."""
        steering, rivals = _split(conditions)
        found = super().ask_choices(prompts, vectors, steering, target=target)
        for condition in rivals:
            rival = self.rivals[condition.vector]
            found += self._open(rival).ask_choices(rival.ask(prompts), (), [condition], target=target)
        return found

    def score_places(
        self,
        completions: Completions,
        places: Sequence[Place],
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        *,
        kl: bool = False,
        **options: Any,
    ) -> Scored:
        """As of ``Units``; under a rival, log probs of the same ids, and of the same answers, after its own prompts."""
        steering, rivals = _split(conditions)
        if not rivals:
            return super().score_places(completions, places, vectors, conditions, kl=kl, **options)
        # Where only a rival is asked for, the unsteered log probs beside it take a pass of their own.
        own, before, after = super().score_places(
            completions, places, vectors, steering or [BASELINE], kl=kl and bool(steering), **options
        )
        found, read = [], [after[: len(steering)]]
        for condition in rivals:
            rival = self.rivals[condition.vector]
            asked, there = rival.ask_again(completions, places)
            scores, _, theirs = self._open(rival).score_places(asked, there, (), [condition], **options)
            found.append(scores)
            read.append(theirs)
        order = [[*steering, *rivals].index(condition) for condition in conditions]
        scores = _join_scores(own if steering else own.select([]), found, conditions)
        return scores, before, np.concatenate(read)[order]

    def read(
        self,
        prompts: Sequence[Prompt],
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        **options: Any,
    ) -> Choices:
        """As of ``Units``; under a rival, of the same answers after its own prompts."""
        steering, rivals = _split(conditions)
        choices = super().read(prompts, vectors, steering, **options)
        for condition in rivals:
            rival = self.rivals[condition.vector]
            choices = choices.join(self._open(rival).read(rival.ask(prompts), (), [condition], **options))
        return choices.select([choices.conditions.index(condition) for condition in conditions])

    def _open(self, rival: Rival) -> Units:
        """Units through a rival's network, which count among the run's."""
        network = rival.network
        shared = self.used, self.made, self._shelves, self._failed
        return Units(network.hands, network.network, self.memory_budget, self.folder, *shared)


def _split(conditions: Sequence[Condition]) -> tuple[list[Condition], list[Condition]]:
    """Conditions of the network itself, and rivals."""
    rivals = [condition for condition in conditions if condition.kind == "rival"]
    return [condition for condition in conditions if condition.kind != "rival"], rivals


def _join_scores(own: TokenScores, rivals: Sequence[TokenScores], conditions: Sequence[Condition]) -> TokenScores:
    """Scores under all conditions, in their order. Divergences of a rival are not known: no pass has both."""
    there = [*own.conditions, *(condition for scores in rivals for condition in scores.conditions)]
    order = [there.index(condition) for condition in conditions]
    joined: dict[str, Any] = {}
    for name in ("logprob", "answers", "kl", "kl_reverse"):
        first = getattr(own, name)
        if first is None:
            continue
        unknown = np.full((1, *first.shape[1:]), np.nan, dtype=first.dtype)
        others = [unknown if "kl" in name else getattr(scores, name) for scores in rivals]
        joined[name] = np.concatenate([first, *others])[order]
    return replace(own, conditions=tuple(conditions), **joined)
