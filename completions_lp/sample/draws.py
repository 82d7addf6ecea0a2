"""Prompts -> Completions: what the model says, unsteered or steered, drawn many times, the prompt run once.

The draws of a prompt share their beginnings, so only distinct prefixes go through the network: the samples that have
said the same so far are one row. Which token a sample draws is settled by a random number of its own, see ``streams``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from completions_lp.checkpoint import check_length
from completions_lp.model import (
    CHUNK,
    Decoder,
    Engine,
    Model,
    Room,
    RowDecoder,
    Steering,
    TreeDecoder,
    check_conditions,
    pack_edits,
    pick_engine,
    prefill_bytes,
    row_bytes,
)
from completions_lp.records import (
    BASELINE,
    Completions,
    Condition,
    Draw,
    Labelling,
    NotFinite,
    Prompt,
    Sampling,
    SteeringVector,
)
from completions_lp.sample.completions import collect_completions, join_draws, join_seeds
from completions_lp.sample.growth import grow_draws
from completions_lp.sample.served import unpack_draws
from completions_lp.sample.streams import CDF_BLOCK, draw_uniforms

WARPED = 8
"""Copies of the logits that temperature, top-k and top-p make of them, at most: top-p sorts them, with their places."""
PASS = 2**15
"""Tokens of a pass on a server, at worst: there every step is a pass over whole texts."""
PICKED_BYTES = 6 * 8 * CDF_BLOCK
"""What it takes to find the token of a draw in its block: places and weights in 64 bits, and what is made of them."""


def sample_completions(
    model: Model,
    prompts: Sequence[Prompt],
    *,
    sampling: Sampling | None = None,
    labelling: Labelling | None = None,
    vectors: Sequence[SteeringVector] = (),
    condition: Condition | None = None,
    memory_budget: float | None = None,
    batch_size: int | None = None,
    engine: Engine = "auto",
    progress: bool = True,
) -> Completions:
    """Draw completions of every prompt from the model, unsteered or under one condition, and label them.

    By default 100 draws of plain ancestral sampling with seed 0, labelled by a stand-alone letter within 10 tokens.
    A condition acts while the model speaks, exactly as ``score_tokens`` does it: ``multiplier`` times the vector's
    direction ``[d_model]`` added at the output of block ``layer``, from the last prompt token on (``positions =
    "completion"``) or at the tokens before it too (``"all"``); None or ``BASELINE``: nothing. The draws of every
    condition have random numbers of their own. ``memory_budget``, ``batch_size`` and ``engine`` are those of
    ``read_choices``: they change the time, not the draws.

    Returns:
        Distinct completions with counts, grouped by prompt, in the order in which they were first drawn. ``logprob``,
        ``[completion, token]`` in nats, is that of the model that said them: unsteered, or under the condition, as
        ``score_tokens`` gives it; at temperature 1 whatever the sampling.

    Raises:
        InputError: A prompt does not fit in the model's context, the condition names an unknown vector or layer, or a
            vector does not fit the model.
        OutOfRoom: A prompt does not fit in memory alone.
        NotFinite: The model's logits are no numbers after a prompt.
    """
    sampling, labelling = sampling or Sampling(), labelling or Labelling()
    check_context(model, prompts, sampling.max_new_tokens)
    total = len(prompts) * len(sampling.split())
    with tqdm(total=total, desc="sample", unit="prompt", disable=not progress) as bar:
        drawn = draw_samples(
            model,
            prompts,
            sampling,
            vectors=vectors,
            condition=condition or BASELINE,
            memory_budget=memory_budget,
            batch_size=batch_size,
            engine=engine,
            advance=bar.update,
        )
    exact = np.float64 if model.exact_dtype == torch.float64 else np.float32
    return collect_completions(model.tokenizer, prompts, drawn, sampling, labelling, dtype=exact)


def draw_samples(
    model: Model,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    first: int = 0,
    vectors: Sequence[SteeringVector] = (),
    condition: Condition = BASELINE,
    memory_budget: float | None = None,
    batch_size: int | None = None,
    engine: Engine = "auto",
    advance: Callable[[int], object] = lambda _: None,
) -> list[list[Draw]]:
    """The draws of every prompt from number ``first`` on, by prompt; the rest is as for ``sample_completions``.

    Of several seeds, each is drawn as if it were alone, from its own number ``first`` on, and the draws of seed number
    k are those from k·n on. ``advance`` gets the number of prompts that are done, as they are, of each seed.
    """
    if sampling.seeds:
        options: dict[str, Any] = {"vectors": vectors, "condition": condition, "memory_budget": memory_budget}
        options |= {"first": first, "batch_size": batch_size, "engine": engine, "advance": advance}
        return join_seeds([draw_samples(model, prompts, one, **options) for one in sampling.split()], sampling.n)
    conditions = [condition] if condition.steers else []
    check_conditions(model, vectors, conditions)
    by_name = {vector.name: vector for vector in vectors}
    steering = Steering.under(model, by_name, conditions) if conditions else None
    layer = condition.layer if conditions else None
    tree, fresh = pick_engine(model, engine) != "rows", range(first, sampling.draws)
    room = Room.find(model, memory_budget)

    def draw(samples: Sequence[tuple[int, int]]) -> list[tuple[int, list[Draw]]]:
        """Samples as prompt and number, those of a prompt together."""
        runs = [(i, [number for _, number in some]) for i, some in groupby(samples, key=lambda item: item[0])]
        chosen = [prompts[i] for i, _ in runs]
        asked = [prompt.token_ids for prompt in chosen]
        numbers = [some for _, some in runs]
        if model.is_remote:
            found = grow_remotely(model, chosen, sampling, numbers, condition, by_name)
            return [(i, draws) for (i, _), draws in zip(runs, found, strict=True)]
        if tree:
            held = _share_logits(model, sampling, room.bytes)
            decoder: Decoder = TreeDecoder(model, asked, steering=steering, held=held)
        else:
            decoder = RowDecoder(model, asked, steering=steering)
        uniforms = np.stack([draw_uniforms(prompt.id, sampling, condition) for prompt in chosen])
        found = grow_draws(decoder, chosen, sampling, numbers, uniforms, model.eos_ids, layer=layer)
        return [(i, draws) for (i, _), draws in zip(runs, found, strict=True)]

    def describe(sample: tuple[int, int]) -> tuple[str, str]:
        prompt = prompts[sample[0]]
        size = f"{len(prompt.token_ids)} tokens, one draw of up to {sampling.max_new_tokens} more,"
        return prompt.id, f"prompt {prompt.id!r} of {size}"

    parts: list[list[list[Draw]]] = [[] for _ in prompts]
    for batch, each in _plan_draws(model, prompts, fresh, sampling, room, tree=tree, most=batch_size):
        samples = [(i, number) for i, numbers in batch for number in numbers]
        for _, found in room.share(samples, draw, each=each, most=len(samples), name=describe):
            for i, draws in found:
                parts[i].append(draws)
        advance(sum(int(numbers[-1] == fresh[-1]) for _, numbers in batch))
    return [some[0] if len(some) == 1 else join_draws(some, sampling.draws) for some in parts]


def grow_remotely(
    model: Model,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    samples: Sequence[Sequence[int]],
    condition: Condition,
    vectors: Mapping[str, SteeringVector],
) -> list[list[Draw]]:
    """As ``grow_draws``, where the model is served; the random numbers are drawn there, too, by the same names."""
    longest = max(len(prompt.token_ids) for prompt in prompts) + max(map(len, samples)) * sampling.max_new_tokens
    work = {
        "ids": [list(prompt.token_ids) for prompt in prompts],
        "names": [prompt.id for prompt in prompts],
        "samples": [list(numbers) for numbers in samples],
        "sampling": asdict(sampling),
        "condition": asdict(condition),
        "done": pack_edits(vectors, [condition]) if condition.steers else {},
        "eos_ids": sorted(model.eos_ids),
        "most": max(1, PASS // longest),
        "held": CHUNK,
    }
    found = model.server.call("completions_lp.sample.served:grow", work)
    if "broken" in found:
        prompt, reason = found["broken"]
        raise NotFinite(reason, prompt_id=prompt)
    model.usage.tokens, model.usage.passes = model.usage.tokens + found["tokens"], model.usage.passes + found["passes"]
    return [unpack_draws(packed) for packed in found["draws"]]


def _plan_draws(
    model: Model,
    prompts: Sequence[Prompt],
    fresh: Sequence[int],
    sampling: Sampling,
    room: Room,
    *,
    tree: bool,
    most: int | None,
) -> Iterator[tuple[list[tuple[int, Sequence[int]]], int]]:
    """Batches of prompts with the samples that are drawn of each, and the bytes that a sample takes in it at worst.

    Prompts of similar length go together, the longest first. Where those of one prompt may take more than the keys and
    values of a pass may take, they are drawn in several runs, of as many as fit. A tree's logits have a share of a pass
    of their own.
    """
    steps, spare = sampling.max_new_tokens, 0
    if tree:
        numbers = min(_share_logits(model, sampling, room.bytes), len(prompts) * len(fresh) * model.vocab_size)
        spare = numbers * _logit_bytes(model, sampling)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].token_ids))
    batch: list[tuple[int, Sequence[int]]] = []
    each = 1
    for i in order:
        fixed, size = (_prompt_bytes(model, len(prompts[i].token_ids), n, steps, tree=tree) for n in (0, len(fresh)))
        runs = -(-len(fresh) // max(1, (room.kept - spare - fixed) * len(fresh) // (size - fixed)))
        for some in (fresh[k * len(fresh) // runs : (k + 1) * len(fresh) // runs] for k in range(runs)):
            fit = max(1, (room.bytes - spare) // each)
            if len(batch) >= (min(fit, most or fit) if room.ran_out else most or fit):
                yield batch, -(-each // len(batch[0][1]))
                batch = []
            each = each if batch else max(-(-size // runs), prefill_bytes(model, len(prompts[i].token_ids)))
            batch.append((i, some))
    if batch:
        yield batch, -(-each // len(batch[0][1]))


def draw_steered(
    model: Model,
    completions: Completions,
    vectors: Sequence[SteeringVector],
    condition: Condition,
    n: int,
    *,
    seed: int | None = None,
    memory_budget: float | None = None,
    progress: bool = True,
) -> Completions:
    """``n`` draws per prompt under a condition, of the window alone; label and (by default) seed as ``completions``."""
    return sample_completions(
        model,
        completions.prompts,
        sampling=shorten_sampling(completions, n, seed=seed),
        labelling=completions.labelling,
        vectors=vectors,
        condition=condition,
        memory_budget=memory_budget,
        progress=progress,
    )


def shorten_sampling(completions: Completions, n: int, *, seed: int | None = None) -> Sampling:
    """How ``n`` completions of the window alone are drawn, else as ``completions``.

    By default with the same seed, of several the first.
    """
    sampling, within = completions.sampling, completions.window
    seed = sampling.seed if seed is None else seed
    return replace(sampling, n=n, seed=seed, seeds=(), max_new_tokens=min(sampling.max_new_tokens, within))


def check_context(model: Model, prompts: Sequence[Prompt], max_new_tokens: int) -> None:
    """Raise InputError if a prompt and its completion do not fit in the model's context, or its tokens are unknown."""
    for prompt in prompts:
        model.check_tokens(prompt.token_ids, f"prompt {prompt.id!r}")
    longest = max(prompts, key=lambda prompt: len(prompt.token_ids))
    check_length(model, longest, len(longest.token_ids), max_new_tokens)


def _logit_bytes(model: Model, sampling: Sampling) -> int:
    """Bytes that a logit takes while tokens are drawn, with the working copies of what is drawn from."""
    copies = 1 if sampling.is_ancestral else 2 if sampling.greedy else WARPED
    return copies * torch.finfo(model.exact_dtype).bits // 8


def _share_logits(model: Model, sampling: Sampling, room: int) -> int:
    """Logits that a tree may hold at once, in numbers: with all copies, a quarter of what a pass may take."""
    return min(CHUNK, room // (4 * _logit_bytes(model, sampling)))


def _prompt_bytes(model: Model, longest: int, draws: int, steps: int, *, tree: bool) -> int:
    """At worst no two draws share a token: a tree holds each beside one prefix, plain rows a prefix per draw."""
    picked = draws * PICKED_BYTES
    if tree:
        return picked + row_bytes(model, tokens=draws, logits=0, past=longest + draws * steps)
    return picked + draws * row_bytes(model, tokens=1, logits=2, past=longest + steps)
