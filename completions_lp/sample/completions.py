"""Draws -> Completions: equal ones counted, labelled, and cut into the pieces of text that their tokens wrote."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Int

from completions_lp.records import Completions, Draw, Labelling, Prompt, Sampling, Tokenizer, name_outcomes
from completions_lp.sample.labels import Labeller
from completions_lp.sample.pieces import Cutter
from completions_lp.sample.reasoning import Splitter


def collect_completions(
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    drawn: Sequence[Sequence[Draw]],
    sampling: Sampling,
    labelling: Labelling,
    *,
    dtype: Any = np.float32,
) -> Completions:
    """Completions of what was drawn of each prompt, in its order; log probs in ``dtype``.

    Where the labelling has outcomes with names of their own, these are the prompts' letters (``name_outcomes``).
    """
    prompts = name_outcomes(prompts, labelling)
    flat = [(i, draw) for i, draws in enumerate(drawn) for draw in draws]
    width = max((len(draw.token_ids) for _, draw in flat), default=0)
    token_ids = np.full((len(flat), width), -1, dtype=np.int32)
    logprob = np.full((len(flat), width), np.nan, dtype=dtype)
    sampler = None if sampling.is_ancestral else logprob.copy()
    labeller, cutter = Labeller(tokenizer, labelling), Cutter(tokenizer)
    splitter, reasoning = Splitter(tokenizer, labelling), []
    labels, answers, texts, pieces = [], [], [], []
    for row, (i, draw) in enumerate(flat):
        ids = list(draw.token_ids)
        token_ids[row, : len(ids)] = ids
        logprob[row, : len(ids)] = draw.logprob
        if sampler is not None and draw.sampler_logprob is not None:
            sampler[row, : len(ids)] = draw.sampler_logprob
        label, answer = labeller.label(ids, letters=prompts[i].letters, prompt=prompts[i])
        labels.append(label)
        answers.append(answer)
        texts.append(str(tokenizer.decode(ids, skip_special_tokens=True)))
        pieces.append(cutter.cut(ids, texts[-1]))
        at: dict[str, Any] = {"label": label, "answer_index": answer, "prompt": prompts[i].token_ids}
        reasoning.append(splitter.split(ids, pieces=pieces[-1], **at).reasoning.stop)
    return Completions(
        prompts=tuple(prompts),
        prompt_index=np.array([i for i, _ in flat], dtype=np.int32),
        token_ids=token_ids,
        lengths=np.array([len(draw.token_ids) for _, draw in flat], dtype=np.int32),
        counts=np.array([len(draw.samples) for _, draw in flat], dtype=np.int32),
        ended=np.array([draw.ended for _, draw in flat], dtype=bool),
        label=np.array(labels, dtype=np.str_),
        answer_index=np.array(answers, dtype=np.int32),
        logprob=logprob,
        text=tuple(texts),
        pieces=tuple(pieces),
        sampling=sampling,
        labelling=labelling,
        reasoning=np.array(reasoning, dtype=np.int32),
        sampler_logprob=sampler,
        seed_counts=_count_seeds([draw for _, draw in flat], sampling),
    )


def _count_seeds(drawn: Sequence[Draw], sampling: Sampling) -> Int[np.ndarray, "completion seed"] | None:
    """How often each seed drew each completion; None where there are no several."""
    size = len(sampling.seeds)
    if size < 2:
        return None
    rows = [np.bincount(np.array(draw.samples) // sampling.n, minlength=size) for draw in drawn]
    return np.array(rows, dtype=np.int32).reshape(-1, size)


def join_seeds(by_seed: Sequence[Sequence[Sequence[Draw]]], n: int) -> list[list[Draw]]:
    """By prompt, the draws of all seeds: the ``n`` of seed number k are numbered from k·n on."""
    numbered = [
        [[replace(draw, samples=[k * n + i for i in draw.samples]) for draw in draws] for draws in drawn]
        for k, drawn in enumerate(by_seed)
    ]
    return [join_draws(parts, n * len(by_seed)) for parts in zip(*numbered, strict=True)]


def join_draws(parts: Sequence[Sequence[Draw]], n: int) -> list[Draw]:
    """The first ``n`` draws of one prompt, from several runs of them: equal ones together, in the order of the first.

    A completion that stands in several has the log probs of the first of these.
    """
    found: dict[tuple[int, ...], Draw] = {}
    for draw in (draw for part in parts for draw in part):
        ids, samples = tuple(draw.token_ids), [sample for sample in draw.samples if sample < n]
        if samples:
            before = found.get(ids)
            found[ids] = replace(
                draw if before is None else before,
                samples=samples if before is None else sorted({*before.samples, *samples}),
            )
    return sorted(found.values(), key=lambda draw: draw.samples[0])
