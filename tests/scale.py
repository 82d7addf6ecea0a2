"""Synthetic scores of any size, reduced to the whole summary: how long it takes and how much memory.

Run as a script in a process of its own: ``python tests/scale.py PROMPTS LAYERS`` prints one line of JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from completions_lp.records import Choices, Completions, Condition, Labelling, Prompt, Sampling, TokenScores
from completions_lp.report import summarize
from completions_lp.score import parts
from completions_lp.score.profile import summarize_profile

MULTIPLIERS = (-4.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 4.0)
TEXTS = 40
TOKENS = 10


def make_completions(n_prompts):
    """100 draws a prompt, 40 of them distinct, of 10 tokens, most of which answer somewhere."""
    rng = np.random.default_rng(0)
    n = n_prompts * TEXTS
    label = rng.choice(np.array(["A", "B", ""]), size=n, p=(0.4, 0.4, 0.2))
    return Completions(
        prompts=tuple(Prompt(f"p{i}", "text", (1, 2), ("A", "B"), "A", "B", f"p{i}") for i in range(n_prompts)),
        prompt_index=np.repeat(np.arange(n_prompts, dtype=np.int32), TEXTS),
        token_ids=rng.integers(3, 9, size=(n, TOKENS), dtype=np.int32),
        lengths=np.full(n, TOKENS, dtype=np.int32),
        counts=1 + rng.multinomial(100 - TEXTS, np.full(TEXTS, 1 / TEXTS), size=n_prompts).ravel().astype(np.int32),
        ended=np.zeros(n, dtype=bool),
        label=label,
        answer_index=np.where(label == "", -1, rng.integers(0, TOKENS, size=n)).astype(np.int32),
        logprob=np.full((n, TOKENS), -1.0, dtype=np.float32),
        text=("",) * n,
        pieces=(("",) * TOKENS,) * n,
        sampling=Sampling(max_new_tokens=TOKENS),
        labelling=Labelling(within=TOKENS),
    )


def make_scores(completions, conditions):
    """Log probs that steering moves by its multiplier, in single precision, as a model gives them."""
    rng = np.random.default_rng(len(completions))
    shape = (len(conditions), *completions.token_ids.shape)
    push = np.array([c.multiplier for c in conditions], dtype=np.float32)[:, None, None]
    answers = np.log(rng.uniform(0.001, 0.2, size=(*shape[1:], 2))).astype(np.float32)
    baseline = np.log(rng.uniform(0.05, 0.7, size=shape[1:])).astype(np.float32)
    change = 0.1 * push * rng.standard_normal(shape, dtype=np.float32)
    kl = np.abs(change)
    return TokenScores(
        completions,
        tuple(conditions),
        baseline,
        np.minimum(baseline + change, -0.01),
        entropy=-baseline,
        kl=kl,
        kl_reverse=kl,
        baseline_answers=answers,
        answers=answers + np.stack([change, -change], -1),
    )


def make_choices(prompts, conditions):
    rng = np.random.default_rng(1)
    logprob = np.log(rng.uniform(0.05, 0.4, size=(1 + len(conditions), len(prompts), 2)))
    return Choices(prompts, (("A", "B"),) * len(prompts), conditions, logprob[0], logprob[1:])


def reduce_scores(n_prompts, n_layers):
    """Seconds and processor seconds by step, without the making of the scores; peak memory in MiB before and after."""
    conditions = tuple(Condition("v", "target", layer, m) for layer in range(n_layers) for m in MULTIPLIERS)
    completions = make_completions(n_prompts)
    making = np.zeros(2)

    def score(_model, part, _places, _vectors, conditions, **_options):
        start = clock()
        scores = make_scores(part, conditions)
        making[:] += clock() - start
        return scores, np.empty((0, 0)), np.empty((len(conditions), 0, 0))

    parts.score_places = score
    before, start = peak(), clock()
    found = parts.score_completions(None, completions, [], conditions, target="A", progress=False)
    profile = summarize_profile(found.profile)
    reduced = clock()
    choices = make_choices(completions.prompts, conditions)
    report = summarize(found.increases, choices, found.measures, target="A", profile=profile)
    steps = {"reduce": reduced - start - making, "summarize": clock() - reduced, "make": making}
    return {
        "seconds": {name: times[0] for name, times in steps.items()},
        "processor": {name: times[1] for name, times in steps.items()},
        "before": before,
        "peak": peak(),
        "rows": len(report.rows),
    }


def clock():
    return np.array([time.perf_counter(), time.process_time()])


def peak():
    """MiB, from Linux's own account where there is one: ``ru_maxrss`` begins at the size of whoever started this."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    print(json.dumps(reduce_scores(int(sys.argv[1]), int(sys.argv[2]))))  # noqa: T201  its result
