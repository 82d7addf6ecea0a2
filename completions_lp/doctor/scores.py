"""Log probs, computed in every way that must give the same: against each other, and against plain passes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from completions_lp.doctor.case import PROBE, Case
from completions_lp.doctor.findings import BROKEN, SLOW, Finding
from completions_lp.doctor.stream import PACKED, WHOLE, check_touch, compare_streams, name_cells, read_touch
from completions_lp.doctor.truth import Plain, pass_plainly
from completions_lp.model import Model, Room, Task, find_comparison, pick_engine, score_trees
from completions_lp.model.engine import Comparison
from completions_lp.model.network import score_next
from completions_lp.model.reading import Reader
from completions_lp.model.steering import Variants
from completions_lp.records import Completions, Condition, InputError, Prompt, Sampling, SteeringVector, TokenScores
from completions_lp.sample.draws import sample_completions
from completions_lp.score.grid import score_tokens

CHUNK = 2**25
"""Numbers of the output head that are read at once for the whole vocabulary."""
LONG = 100.0
"""Nats of a completion's log prob up to which the tolerance holds; of rarer ones more is rounded."""
NORMED = 0.05
"""Nats by which half precision may let all probabilities miss 1; in float32 it is the tolerance of the model."""
LEAST = 1e-6
"""GiB of a pass, for as few completions and conditions in it as can be: what one leaves behind the next one finds."""
EXACT = 50
"""Times as near as two right ways have to be, where the computation is the very same."""


def check_scores(case: Case, control: Callable[[], Model]) -> list[Finding]:
    """Every way to the log probs of the case; ``control`` gives a model on which all ways are known to be right."""
    limit, every = case.model.tolerance, list(case.vectors.values())
    pick_engine(case.model)

    def score(conditions: Sequence[Condition], **options: Any) -> TokenScores:
        return score_tokens(case.model, case.completions, every, conditions, progress=False, **options)

    first, other, again = score(case.cells), score(case.others), score(case.cells)
    alone = score(case.cells, batch_size=1, memory_budget=LEAST)
    zero = [i for i, c in enumerate(case.cells) if c.is_neutral]
    moved = _largest(case.completions, first.increase[zero])
    sampled = _largest(case.completions, first.baseline - case.completions.logprob)
    lengths = [len(prompt.token_ids) for prompt in case.prompts]
    beside = f"{len(case.completions)} completions of prompts of {', '.join(map(str, lengths))} tokens"
    order = f"A: {name_cells(case.cells)}; B: {name_cells(case.others)}"
    return [
        Finding("multiplier 0 = baseline", moved, limit / EXACT, seen=name_cells([case.cells[i] for i in zero])),
        Finding("batched = single", _compare(first, alone), limit, seen=beside),
        _check_trees(case, first, score, control),
        *_compare_plainly(case, [first, other], limit),
        Finding("A, B, A leaves nothing behind", _compare(first, again), limit / EXACT, seen=order),
        Finding("sampled log probs = scored ones", sampled, limit, seen=f"{len(case.completions)} completions"),
        _check_steered_draws(case),
        check_vocabulary(case),
    ]


def _check_trees(
    case: Case, first: TokenScores, score: Callable[..., TokenScores], control: Callable[[], Model]
) -> Finding:
    """Trees against rows on the case; or, where the model takes no trees, whether that is the model's own doing."""
    name, why = "trees = rows", find_comparison(case.model).describe()
    if case.model.usage.engine == "tree":
        return Finding(name, _compare(first, score(case.cells, engine="rows")), case.model.tolerance, seen=why)
    broken = _try_control(control)
    seen = f"{why}; on the embedded model: {broken}" if broken else why
    return Finding(name, float("inf"), 0.0, "(no trees)", seen, is_fault=bool(broken), told=BROKEN if broken else SLOW)


def _try_control(control: Callable[[], Model]) -> str:
    """Why trees are not exact on the control; empty where they are."""
    try:
        compared: Comparison = find_comparison(control())
    except InputError as error:
        return str(error)
    return "" if compared.exact else compared.describe()


def _compare_plainly(case: Case, scored: Sequence[TokenScores], limit: float) -> Iterator[Finding]:
    """Scores and residual streams against full passes: each condition on a completion of the first prompt and one more.

    Unsteered, a completion of every prompt.
    """
    rows = case.first_rows
    plain = {row: pass_plainly(case.model, *case.read_row(row)) for row in rows}
    off = [_distance(scores.baseline[row], plain[row]) for scores in scored for row in rows]
    streams, touched, n = [], [], len(case.prompts[0].token_ids)
    for scores in scored:
        for c, condition in enumerate(scores.conditions):
            if condition.is_neutral:
                continue
            vector = case.vectors[condition.vector]
            for row in dict.fromkeys((rows[0], rows[c % len(rows)])):
                true = pass_plainly(case.model, *case.read_row(row), condition, vector)
                off.append(_distance(scores.logprob[c, row], true))
                if row == rows[0]:
                    touch = read_touch(case, row, condition)
                    touched.append(check_touch(case.model, touch, condition, vector, n))
                    streams.append(compare_streams(touch, true, plain[row]))
    most = max(_largest(case.completions, np.nan_to_num(scores.increase)) for scores in scored)
    texts = f"{len(off)} texts, each in a pass of its own; steering changes log probs by up to {most:.1g} nats"
    read = f"{case.model.n_layers} layers under {len(streams)} conditions"
    yield Finding("shared prefix = full forward", _worst(off), limit, seen=texts)
    yield from (_join(some) for some in zip(*touched, strict=True))
    limit = max(WHOLE, PACKED if case.model.packed else 0.0)
    yield Finding("residual streams = those of a full forward", _worst(streams), limit, "of the stream", read)


def _join(findings: Sequence[Finding]) -> Finding:
    """One check of several conditions: the worst of them, with what was seen of each."""
    worst = max(findings, key=lambda finding: (np.isnan(finding.value), finding.value))
    return replace(worst, seen="; ".join(dict.fromkeys(finding.seen for finding in findings)))


def _check_steered_draws(case: Case) -> Finding:
    """Draws of the steered model have the log probs that scoring gives them: under the probe, which matters."""
    condition = next(c for c in case.cells if c.vector == PROBE and not c.is_neutral)
    vectors, sampling = [case.vectors[condition.vector]], Sampling(n=2, max_new_tokens=4, seed=1)
    drawn = sample_completions(
        case.model, case.prompts[:2], sampling=sampling, vectors=vectors, condition=condition, progress=False
    )
    scored = score_tokens(case.model, drawn, vectors, [condition], progress=False)
    off = _largest(drawn, scored.logprob[0] - drawn.logprob)
    return Finding("steered draws = steered scores", off, case.model.tolerance, seen=name_cells([condition]))


def check_vocabulary(case: Case) -> Finding:
    """The probabilities of all tokens after a prompt, unsteered and steered, as they are read for a score."""
    condition = case.cells[-1]
    logprob = read_vocabulary(case.model, case.prompts[0], case.vectors[condition.vector], condition)
    off = np.abs(np.log(np.exp(logprob).sum(-1)))
    seen = f"{logprob.shape[1]} tokens, unsteered and under {name_cells([condition])}"
    limit = min(case.model.tolerance, NORMED)
    return Finding("probabilities over the vocabulary sum to 1", _worst(off.tolist()), limit, seen=seen)


def read_vocabulary(
    model: Model, prompt: Prompt, vector: SteeringVector, condition: Condition
) -> Float[np.ndarray, "2 vocab"]:
    """Log prob of every token after a prompt, unsteered and under a condition, by the way that the model takes."""
    vectors, tokens = {vector.name: vector}, np.arange(model.vocab_size)
    if pick_engine(model) == "tree":
        size = max(1, CHUNK // model.d_model)
        found = np.empty((2, len(tokens)))
        for start in range(0, len(tokens), size):
            said = [[int(token)] for token in tokens[start : start + size]]
            room = Room.find(model, None)
            task = Task(model, [prompt], np.zeros(len(said), dtype=int), said, vectors, [condition], room)
            for rows, _, reduced in score_trees(task):
                found[:, start + np.array(rows)] = reduced.logprob[:, :, 0]
        return found
    prefix, steering = Variants(model, [prompt.token_ids], torch.zeros(1, dtype=torch.long)).steer(vectors, [condition])
    last = torch.tensor([[prompt.token_ids[-1]]] * 2, device=model.device)
    every = torch.from_numpy(tokens).to(model.device)[None]
    reader = Reader(1, torch.zeros_like(every), every, None, divergences=False)
    return np.asarray(score_next(model, prefix, last, reader, steering=steering)["logprob"].double().numpy())


def _distance(scored: Float[np.ndarray, " width"], plain: Plain) -> float:
    """Nats between a completion's log probs and those of a plain pass, of a long one in proportion."""
    true = float(plain.logprob.sum())
    return float(abs(scored[: len(plain.logprob)].sum(dtype=np.float64) - true) / max(1.0, abs(true) / LONG))


def _compare(one: TokenScores, other: TokenScores) -> float:
    """Largest distance of two scores of the same completions, unsteered or under any condition."""
    scale = np.maximum(1.0, np.abs(np.where(one.completions.mask, one.logprob, 0.0).sum(-1)) / LONG)
    steered = _largest(one.completions, one.logprob - other.logprob, scale)
    return _worst([_largest(one.completions, one.baseline - other.baseline), steered])


def _largest(
    completions: Completions, difference: Float[np.ndarray, "... completion token"], scale: Any = 1.0
) -> float:
    """Largest |sum over a completion's tokens|; NaN if any of those is, whereas past the end nothing counts."""
    sums = np.where(completions.mask, difference, 0.0).sum(-1, dtype=np.float64)
    return float((np.abs(sums) / scale).max(initial=0.0))


def _worst(values: Sequence[float]) -> float:
    """The largest; NaN if any is."""
    return float(np.max(values)) if values else 0.0
