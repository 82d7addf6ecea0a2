"""What is asked of the network: items and conditions by their keys, in batches that the work alone decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from completions_lp.records import BASELINE, Completions, Condition, Prompt, Sampling, SteeringVector, Through
from completions_lp.score.places import Place
from completions_lp.work import keys
from completions_lp.work.batches import measure_unit, split_work
from completions_lp.work.hands import Hands
from completions_lp.work.requests import DrawRequest, ReadRequest, ScoreRequest
from completions_lp.work.tasks import pick_vectors


@dataclass
class Asking:
    """Makes requests to a model."""

    hands: Hands
    """Who does what is missing; nobody opens a model before."""
    model: Mapping[str, Any]
    """What ``Model.describe`` says of it."""
    memory_budget: float | None

    def ask_draws(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        *,
        vectors: Sequence[SteeringVector] = (),
        condition: Condition = BASELINE,
    ) -> list[DrawRequest]:
        """What ``draw`` asks of the network, by seed."""
        unit, items = measure_unit(self.model), [keys.key_prompt(prompt) for prompt in prompts]
        sizes = [sampling.split()[0].draws * sampling.max_new_tokens] * len(prompts)
        return [
            DrawRequest(
                **self._asked,
                context=keys.describe_draws(self.model, one, vectors, condition),
                items=items,
                batches=list(split_work(prompts, sizes, unit)),
                sizes=sizes,
                vectors=pick_vectors(vectors, [condition]),
                conditions=[condition],
                prompts=prompts,
                sampling=one,
            )
            for one in sampling.split()
        ]

    def ask_scores(
        self,
        completions: Completions,
        places: Sequence[Place],
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        *,
        target: str,
        kl: bool = False,
        through: Through = "end",
    ) -> list[ScoreRequest]:
        """What ``score_places`` asks of the network."""
        watch, unit, n = completions.labelling.is_by_token, measure_unit(self.model), len(completions)
        index = {prompt.id: i for i, prompt in enumerate(completions.prompts)}
        rows = [completions.rows_of(i).tolist() for i in range(len(completions.prompts))]
        read: list[list[int]] = [[] for _ in rows]
        for k, place in enumerate(places):
            read[index[place.prompt.id]].append(n + k)
        scored = completions.count_scored(through)
        sizes = [
            (int(scored[some].sum()) + len(at)) * (1 + len(conditions)) for some, at in zip(rows, read, strict=True)
        ]
        own = keys.key_completions(completions, target if watch else None, through)
        request = ScoreRequest(
            **self._asked,
            context=keys.describe_scores(self.model, completions.labelling, watch=watch, kl=kl, through=through),
            items=[*own, *map(keys.key_place, places)],
            ids=[*(completions.prompts[i].id for i in completions.prompt_index), *(p.prompt.id for p in places)],
            lengths=[*scored.tolist(), *(len(place.sides) for place in places)],
            sizes=[*scored.tolist(), *[1] * len(places)],
            batches=[
                [row for part in (rows, read) for i in batch for row in part[i]]
                for batch in split_work(completions.prompts, sizes, unit)
            ],
            vectors=pick_vectors(vectors, conditions),
            conditions=conditions,
            keys=[keys.key_condition(condition, vectors) for condition in conditions],
            target=target,
            completions=completions,
            places=places,
            kl=kl,
            through=through,
        )
        return [request]

    def ask_choices(
        self,
        prompts: Sequence[Prompt],
        vectors: Sequence[SteeringVector],
        conditions: Sequence[Condition],
        *,
        target: str,
    ) -> list[ReadRequest]:
        """What ``read`` asks of the network."""
        unit = measure_unit(self.model)
        # About a token for four letters: answers may be sentences, all of which are read.
        tokens = [sum(1 + len(letter) // 4 for letter in prompt.letters) for prompt in prompts]
        request = ReadRequest(
            **self._asked,
            context=keys.describe_choices(self.model),
            items=[keys.key_question(prompt, target) for prompt in prompts],
            ids=[prompt.id for prompt in prompts],
            lengths=[2 * (2 + len(prompt.letters)) for prompt in prompts],
            sizes=tokens,
            batches=list(split_work(prompts, [n * (1 + len(conditions)) for n in tokens], unit)),
            vectors=pick_vectors(vectors, conditions),
            conditions=conditions,
            keys=[keys.key_condition(condition, vectors) for condition in conditions],
            target=target,
            prompts=prompts,
        )
        return [request]

    @property
    def _asked(self) -> dict[str, Any]:
        """What every request is told."""
        told = {"hands": self.hands, "model": self.model, "memory_budget": self.memory_budget}
        return {**told, "unit": measure_unit(self.model)}
