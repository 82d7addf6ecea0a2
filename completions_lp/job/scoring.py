"""How a run scores: in parts, and the top-up after them; with many workers, all that is missing at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from completions_lp.job.config import Config
from completions_lp.records import Completions, Condition, Measures, Scores, SteeringVector, TokenScores
from completions_lp.sample.draws import shorten_sampling
from completions_lp.score.parts import reads_divergences, reduce_scores, split_completions
from completions_lp.score.places import Place, find_endings
from completions_lp.score.readings import Scored, score_endings
from completions_lp.score.topup import mend_measures
from completions_lp.score.windows import Windows
from completions_lp.work.requests import Request
from completions_lp.work.units import Advance, Units


@dataclass(frozen=True, eq=False)
class Scoring:
    """The scores of a run, from its units."""

    config: Config
    units: Units
    tokenizer: Any
    vectors: Sequence[SteeringVector]
    conditions: Sequence[Condition]
    draw: Callable[..., Completions]
    """Draws completions of some prompts, from units, and labels them."""

    @property
    def kl(self) -> bool:
        """Whether divergences are read."""
        return reads_divergences(self.config.scoring.through, kl=self.config.scoring.kl)

    @property
    def _asked(self) -> dict[str, Any]:
        return {"target": self.config.label.target, "through": self.config.scoring.through}

    def prepare(self, completions: Completions) -> None:
        """Have all that is missing done at once, where there are many hands: no part waits for the one before it."""
        if self.units.hands.many:
            self.units.prepare(self._ask(completions), "score")

    def _ask(self, completions: Completions) -> Iterator[Request]:
        scoring = self.config.scoring
        for part in split_completions(completions, len(self.conditions), kl=self.kl):
            places: Sequence[Place] = ()
            if self.config.reads_endings:
                places = find_endings(self.tokenizer, part, cue=scoring.cue, through=scoring.through).places
            yield from self.units.ask_scores(part, places, self.vectors, self.conditions, kl=self.kl, **self._asked)

    def reduce(self, completions: Completions, advance: Advance, **kept: Any) -> Scores:
        """The scores, reduced part by part; ``kept`` are options of ``reduce_scores``."""
        reader = self.tokenizer if self.config.reads_endings else None

        def score(part: Completions) -> Scored:
            def work(places: Sequence[Place]) -> Any:
                options: dict[str, Any] = {"kl": self.kl, "advance": advance, **self._asked}
                return self.units.score_places(part, places, self.vectors, self.conditions, **options)

            return score_endings(part, work, reader, cue=self.config.scoring.cue, through=self.config.scoring.through)

        asked: dict[str, Any] = {"target": self.config.label.target, "kl": self.kl}
        return reduce_scores(completions, self.conditions, score, **asked, **kept)

    def mend(
        self, completions: Completions, measures: Measures, windows: Windows, *, progress: bool
    ) -> tuple[Measures, dict[Condition, Completions]]:
        """The measures with the top-up, and its draws."""
        top_up = self.config.sampling.top_up

        def draw(part: Completions, condition: Condition) -> Completions:
            sampling = shorten_sampling(part, top_up)
            return self.draw(part.prompts, sampling, part.labelling, vectors=self.vectors, condition=condition)

        def score(pool: Completions, condition: Condition) -> TokenScores:
            return self.units.score(pool, self.vectors, [condition], **self._asked)

        def draw_ahead(parts: Iterable[tuple[Completions, Condition]]) -> None:
            steered: dict[str, Any] = {"vectors": self.vectors}
            asked = (
                self.units.ask_draws(part.prompts, shorten_sampling(part, top_up), condition=condition, **steered)
                for part, condition in parts
            )
            self.units.prepare((request for some in asked for request in some), "top up, draws")

        def score_ahead(pools: Iterable[tuple[Completions, Condition]]) -> None:
            asked = (
                self.units.ask_scores(pool, (), self.vectors, [condition], **self._asked) for pool, condition in pools
            )
            self.units.prepare((request for some in asked for request in some), "top up, scores")

        ahead = (draw_ahead, score_ahead) if self.units.hands.many else None
        options: dict[str, Any] = {"target": self.config.label.target, "windows": windows, "progress": progress}
        return mend_measures(completions, measures, draw, score, ahead=ahead, **options)
