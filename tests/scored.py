"""Completions and scores of toy prompts: what sampling and scoring would give if the model were a toy law."""

from dataclasses import dataclass, field

import numpy as np
import toys

from completions_lp.records import Completions, Condition, Labelling, Prompt, Sampling, TokenScores

TOKENS = {"A": toys.A, "B": toys.B, "C": toys.C, "D": toys.D}
PARTS = 16
"""Probabilities of a grid law are multiples of 1/16, so that whole counts can be exactly in proportion to them."""


def make_conditions(n):
    return tuple(Condition("v", "target", c, float(1 + c)) for c in range(n))


def grid_law(seed):
    """Next-token probabilities that are multiples of 1/16 and depend on the whole history; every token has some."""

    def table(prefix):
        rng = np.random.default_rng([seed, *prefix])
        return (1 + rng.multinomial(PARTS - toys.VOCAB, np.full(toys.VOCAB, 1 / toys.VOCAB))) / PARTS

    return toys.table_law(table)


@dataclass(frozen=True)
class World:
    """One prompt: the unsteered law, the steered ones, and what was drawn."""

    law: object
    steered: tuple
    texts: list
    counts: list
    letters: tuple = ("A", "B")
    matching: str = "A"
    not_matching: str = "B"
    options: dict = field(default_factory=dict)

    @property
    def answers(self):
        """The tokens of each letter that ends a text."""
        return tuple((TOKENS[letter],) for letter in self.letters)

    def pair(self, target):
        """The tokens of the target and of the answer that it is compared with."""
        first = target if target in self.letters else self.matching
        second = self.not_matching if first == self.matching else self.matching
        return (TOKENS[first],), (TOKENS[second],)

    def probability(self, law, within, letter):
        """P(this letter comes first) by adding up every text."""
        return toys.probability_of(law, within, answer=self.letters.index(letter), answers=self.answers)


def make_world(seed, multipliers, *, steps, **options):
    """Every text of a random world, with counts that are exactly in proportion to its probability."""
    law = grid_law(seed)

    def push(multiplier):
        def table(prefix):
            direction = np.random.default_rng([seed, 7, *prefix]).standard_normal(toys.VOCAB)
            return np.exp(toys.normalise(law(prefix) + multiplier * direction))

        return toys.table_law(table)

    texts = toys.enumerate_texts(law, steps)
    counts = [round(np.exp(toys.logprob_of(law, text)) * PARTS**steps) for text in texts]
    assert sum(counts) == PARTS**steps
    return World(law, tuple(map(push, multipliers)), texts, counts, **options)


def make_scores(
    worlds, *, within, target="A", conditions=None, sampling=None, labelling=None, kl=True, dtype=np.float64, watch=True
):
    """TokenScores of the drawn texts of some worlds, one prompt each; every number is read off the laws."""
    n_conditions = len(worlds[0].steered) if worlds else 0
    conditions = make_conditions(n_conditions) if conditions is None else conditions
    rows = [(i, text) for i, world in enumerate(worlds) for text in world.texts]
    width = max(len(text) for _, text in rows)
    completions = make_completions(worlds, rows, width, within, sampling, labelling)
    shape, many = (len(rows), width), (n_conditions, len(rows), width)
    arrays = {"baseline": shape, "entropy": shape, "logprob": many, "kl": many, "kl_reverse": many}
    arrays = {name: np.full(size, np.nan, dtype=dtype) for name, size in arrays.items()}
    arrays |= {"baseline_answers": np.full((*shape, 2), np.nan, dtype), "answers": np.full((*many, 2), np.nan, dtype)}
    for i, world in enumerate(worlds):
        if not world.texts:
            continue
        seen = toys.observe(world.law, world.steered, world.texts, within=width, answers=world.pair(target))
        at = completions.prompt_index == i
        for name, values in (("baseline", seen.logp), ("entropy", seen.ent), ("logprob", seen.logq)):
            arrays[name][..., at, :] = values
        arrays["kl"][:, at], arrays["kl_reverse"][:, at] = seen.kl, seen.klr
        arrays["baseline_answers"][at] = np.stack([seen.lpA, seen.lpB], -1)
        arrays["answers"][:, at] = np.stack([seen.lqA, seen.lqB], -1)
    left_out = (() if kl else ("entropy", "kl", "kl_reverse")) + (() if watch else ("baseline_answers", "answers"))
    return TokenScores(completions, conditions, **{name: v for name, v in arrays.items() if name not in left_out})


def make_completions(worlds, rows, width, within, sampling=None, labelling=None):
    """The texts as completions, labelled by their first answer within the window."""
    token_ids = np.full((len(rows), width), -1, dtype=np.int32)
    label, answer_index = [], []
    for k, (i, text) in enumerate(rows):
        token_ids[k, : len(text)] = text
        index, where = toys.first_answer(text, within, worlds[i].answers)
        label.append(worlds[i].letters[index] if where >= 0 else "")
        answer_index.append(where)
    return Completions(
        prompts=tuple(make_prompt(i, world) for i, world in enumerate(worlds)),
        prompt_index=np.array([i for i, _ in rows], dtype=np.int32),
        token_ids=token_ids,
        lengths=np.array([len(text) for _, text in rows], dtype=np.int32),
        counts=np.array([count for world in worlds for count in world.counts], dtype=np.int32),
        ended=np.array([text[-1] == toys.EOS for _, text in rows], dtype=bool),
        label=np.array(label, dtype=str),
        answer_index=np.array(answer_index, dtype=np.int32),
        logprob=np.where(token_ids >= 0, 0.0, np.nan),
        text=tuple("".join(map(str, text)) for _, text in rows),
        pieces=tuple(tuple(map(str, text)) for _, text in rows),
        sampling=sampling or Sampling(max_new_tokens=width),
        labelling=labelling or Labelling(within=within),
    )


def make_prompt(i, world):
    return Prompt(f"p{i}", f"text {i}", (5, 6), world.letters, world.matching, world.not_matching, f"p{i}")
