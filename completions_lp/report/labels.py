"""The same completions by several label rules: what each calls them, where they disagree, and how far numbers move."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float

from completions_lp.quantities import HEADLINE, PRIMARY, name_unit
from completions_lp.records import Completions, Condition, Estimate, Labelling, Prompt, Tokenizer, TokenScores
from completions_lp.report.prompts import measure_prompts
from completions_lp.sample.labels import Labeller
from completions_lp.sample.pieces import PieceTokenizer
from completions_lp.sample.reasoning import Splitter
from completions_lp.score.measures import measure_completions
from completions_lp.score.sums import sum_tokens
from completions_lp.stats import mean_interval

EXAMPLES = 3
"""Completions that are kept of a pair of rules that disagree, the most frequent ones."""
MOVED = (HEADLINE, PRIMARY)
"""What is computed by every rule."""


@dataclass(frozen=True)
class RuleCount:
    """What one rule calls the draws of a run."""

    rule: str
    labelling: Labelling
    answers: Mapping[str, int]
    """Draws by answer."""
    none: int
    """Draws without an answer."""
    target: int
    """Draws with the target answer of their prompt."""
    ambiguous: int | None
    """Draws in which the rule finds two answers or more; None where it says but one, as a function does."""
    draws: int


@dataclass(frozen=True)
class Example:
    """A completion that two rules label otherwise."""

    prompt_id: str
    text: str
    first: str
    second: str
    """Its labels by both, ``""`` for none."""
    count: int


@dataclass(frozen=True)
class Disagreement:
    """Two rules, and where they disagree."""

    first: str
    second: str
    draws: int
    """With other labels."""
    total: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class RuleEffect:
    """One number of one cell by one rule."""

    rule: str
    condition: Condition
    quantity: str
    estimate: Estimate
    moved: Estimate
    """Less what it is by the run's own rule, prompt by prompt, over the prompts on which both have a value."""


def name_rule(labelling: Labelling) -> str:
    """A rule and its window in a word or two: ``letter ≤10``, ``final_answer, all``."""
    return f"{labelling.rule}, all" if labelling.within == "all" else f"{labelling.rule} ≤{labelling.within}"


def list_rules(completions: Completions) -> dict[str, Labelling]:
    """The run's own rule, by its name, then those that it is to be compared with.

    A letter that stands alone, as a token, anywhere, in the run's window; alone in the whole completion; committed in
    the whole completion. Where outcomes have names of their own: the run's rule on the whole completion.
    """
    own = completions.labelling
    others = [replace(own, within="all")] if callable(own.function) or not own.function else []
    if not own.names:
        others += [Labelling(rule, own.within) for rule in ("letter", "token", "substring")]
        others += [Labelling("letter", "all"), Labelling("final_answer", "all", thinking=own.thinking)]
    longest = completions.sampling.max_new_tokens
    found = {name_rule(own): own}
    seen = [replace(own, within=own.size_window(longest))]
    for labelling in others:
        window = replace(labelling, within=labelling.size_window(longest))
        if window not in seen:
            seen.append(window)
            found.setdefault(name_rule(labelling), labelling)
    return found


@dataclass(frozen=True, eq=False)
class Readable:
    """Completions as they can be read: by their tokenizer, or by a stand-in and ids of its own."""

    tokenizer: Tokenizer
    token_ids: Sequence[Sequence[int]]
    """Of each completion."""
    prompts: Sequence[Prompt]
    """Of each completion, their token ids by the same tokenizer."""

    @classmethod
    def of(cls, completions: Completions, tokenizer: Tokenizer | None = None) -> "Readable":
        """With a tokenizer their own ids, and without one their stored pieces of text."""
        index = completions.prompt_index.tolist()
        if tokenizer is not None:
            said = zip(completions.token_ids, completions.lengths, strict=True)
            return cls(tokenizer, [ids[:n].tolist() for ids, n in said], [completions.prompts[i] for i in index])
        stand_in = PieceTokenizer()
        asked = [
            replace(prompt, token_ids=tuple(stand_in.encode([prompt.text], ended=False)))
            for prompt in completions.prompts
        ]
        pairs = zip(completions.pieces, completions.ended.tolist(), strict=True)
        return cls(stand_in, [stand_in.encode(pieces, ended=end) for pieces, end in pairs], [asked[i] for i in index])


def relabel(completions: Completions, labelling: Labelling, readable: Readable) -> Completions:
    """The same completions labelled by another rule."""
    labeller, splitter = Labeller(readable.tokenizer, labelling), Splitter(readable.tokenizer, labelling)
    labels, answers, reasoning = [], [], []
    for ids, prompt in zip(readable.token_ids, readable.prompts, strict=True):
        label, answer = labeller.label(ids, letters=prompt.letters, prompt=prompt)
        labels.append(label)
        answers.append(answer)
        parts = splitter.split(ids, label=label, answer_index=answer, prompt=prompt.token_ids)
        reasoning.append(parts.reasoning.stop)
    return replace(
        completions,
        label=np.array(labels, dtype=np.str_),
        answer_index=np.array(answers, dtype=np.int32),
        reasoning=np.array(reasoning, dtype=np.int32),
        labelling=labelling,
    )


def find_ambiguous(labelling: Labelling, readable: Readable) -> Bool[np.ndarray, " completion"] | None:
    """Completions in which a rule finds two answers or more, each by itself; None for a function, which says one."""
    if labelling.rule == "python":
        return None
    labeller, several = Labeller(readable.tokenizer, labelling), []
    for ids, prompt in zip(readable.token_ids, readable.prompts, strict=True):
        letters = [x for x in prompt.letters if x in labelling.names] or prompt.letters
        several.append(sum(bool(labeller.label(ids, letters=(x,), prompt=prompt)[0]) for x in letters) > 1)
    return np.array(several, dtype=bool)


def count_labels(
    rule: str, completions: Completions, ambiguous: Bool[np.ndarray, " completion"] | None, *, target: str
) -> RuleCount:
    """What a rule, by which completions are labelled, calls the draws."""
    counts = completions.counts
    letters = dict.fromkeys(letter for prompt in completions.prompts for letter in prompt.letters)
    answers = {letter: int(counts[completions.label == letter].sum()) for letter in sorted(letters)}
    return RuleCount(
        rule,
        completions.labelling,
        answers,
        int(counts[completions.label == ""].sum()),
        int(counts[completions.hits(target)].sum()),
        None if ambiguous is None else int(counts[ambiguous].sum()),
        int(counts.sum()),
    )


def find_disagreements(by_rule: Mapping[str, Completions], *, examples: int = EXAMPLES) -> Iterator[Disagreement]:
    """Every pair of rules that label any draw otherwise, the run's own first; the most frequent texts as examples."""
    for (first, one), (second, other) in combinations(by_rule.items(), 2):
        rows = np.flatnonzero(one.label != other.label)
        if not len(rows):
            continue
        shown = rows[np.argsort(-one.counts[rows], kind="stable")][:examples].tolist()
        told = tuple(
            Example(
                one.prompts[one.prompt_index[row]].id,
                one.text[row],
                str(one.label[row]),
                str(other.label[row]),
                int(one.counts[row]),
            )
            for row in shown
        )
        yield Disagreement(first, second, int(one.counts[rows].sum()), int(one.counts.sum()), told)


def measure_rule(scores: TokenScores, completions: Completions, *, target: str) -> dict[str, np.ndarray]:
    """[condition prompt] by quantity of ``MOVED``: by these labels of the completions that were scored.

    P(A) before and under steering is by the labels alone, a share of draws and of weights, whatever the rule. NaN
    where the rule needs tokens that were not scored.
    """
    scores = replace(scores, completions=completions, answers=None, baseline_answers=None)
    increases, measures = sum_tokens(scores), measure_completions(scores, target=target)
    return {
        HEADLINE: measure_prompts(increases, target=target)[HEADLINE],
        PRIMARY: 100 * (measures.steered["p_A_steered"] - measures.unsteered["p_A"]),
    }


def compare_rules(
    values: Mapping[str, Mapping[str, Float[np.ndarray, "condition prompt"]]],
    conditions: Sequence[Condition],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
) -> tuple[RuleEffect, ...]:
    """Means over prompts with t intervals over clusters, by rule, cell and quantity, and how far they move.

    ``values`` are by rule, the run's own first, and by quantity.
    """
    groups = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)[1]
    own = next(iter(values.values()))
    return tuple(
        RuleEffect(
            rule,
            condition,
            quantity,
            mean_interval(found[quantity][c], groups, unit=name_unit(quantity), level=level),
            mean_interval(found[quantity][c] - own[quantity][c], groups, unit=name_unit(quantity), level=level),
        )
        for rule, found in values.items()
        for c, condition in enumerate(conditions)
        for quantity in MOVED
    )
