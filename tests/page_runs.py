"""Runs made up without a model, also written by the package's own stores: what pages are tried on.

Layers differ in strength, the middle one is the strongest; damage grows with the square of the multiplier; random
directions do a little of everything. The texts are words drawn at random, but for those that are strange on purpose.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from completions_lp import store
from completions_lp.records import (
    Completions,
    Condition,
    Increases,
    Labelling,
    Measures,
    Prompt,
    Report,
    Sampling,
    TokenIncreases,
    TokenScores,
)
from completions_lp.report import summarize
from completions_lp.score.sums import sum_tokens
from completions_lp.show.escape import escape_rows
from completions_lp.show.page import make_page
from completions_lp.show.text import format_report

FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
STRANGE = (
    (" <script>", "document.title = 'taken'", "</script>", " (", "A", ")"),
    (" </script>", "<img src=x onerror=alert(1)>", " &amp;", " (", "A", ")"),
    (" שלום", " עולם", " (", "B", ")", "", "", FAMILY),
    ("\u202eevil", "\x1b[31m", "\x00", "\u2028", "\ttab", " A"),
    (" line\n", "break", "", "", "\N{GRINNING FACE}", " (", "A"),
)
"""Pieces of completions that must be seen as text; an empty piece is a token that shares the next one's."""
STRANGE_PROMPT = (
    "Is <b>this</b> \u202eok?\n\n{{meta}} </script><script>document.title = 'taken'</script>\n (A) שלום\n (B) No"
)
_EOS = 0


@dataclass(frozen=True, eq=False)
class Made:
    """A run that was made up: what its page is made of, and its directory, where the tables say the same."""

    folder: Path
    report: Report
    info: dict[str, Any]
    tokens: TokenIncreases | None

    def make(self, **options):
        return make_page(self.report, self.info, tokens=self.tokens, **options)

    def write(self, **options):
        path = self.folder / "report.html"
        path.write_text(self.make(**options), encoding="utf-8")
        return path


def make_run(
    folder,
    *,
    n_prompts=6,
    n_completions=7,
    layers=(0, 1, 2),
    multipliers=(-1.0, 1.0),
    n_random=1,
    tokens="all",
    answers=("A", "B", ""),
    strange=False,
    n_tokens=8,
    target="matching",
    block=50,
    seed=0,
):
    """Make a run and write its directory; ``tokens`` is "all", "chosen" (one layer of the target vector) or None."""
    rng = np.random.default_rng(seed)
    conditions = make_conditions(layers, multipliers, n_random)
    chosen = [i for i, c in enumerate(conditions) if c.kind == "target" and c.layer == layers[len(layers) // 2]]
    completions = make_completions(rng, n_prompts, n_completions, n_tokens, answers, strange)
    info = {"config": make_config(target, layers, multipliers), "seed": seed, "model": {"n_layers": 9}}
    store.start_run(folder, info)
    store.write_completions(folder, completions)
    sums = []
    with store.open_tokens(folder) as keep:
        for start in range(0, n_prompts, block):
            part = completions.select(range(start, min(start + block, n_prompts)))
            scores = make_scores(rng, part, conditions, layers)
            sums.append(sum_tokens(scores))
            if tokens:
                keep(scores if tokens == "all" else scores.select(chosen))
    increases = Increases.join(completions, sums)
    store.write_increases(folder, increases)
    report = summarize(increases, None, make_measures(rng, increases), target=target, seed=seed)
    store.write_report(folder, report, format_report(report, title="made up", quality={}), doses={}, escape=escape_rows)
    info |= {"checks": dict(report.checks), "warnings": list(report.warnings), "errors": list(report.errors)}
    store.write_info(folder, info)
    return Made(folder, report, info, store.read_token_increases(folder, completions))


def make_conditions(layers, multipliers, n_random):
    vectors = [("kind <i>", "target"), *((f"random-{i}", "random") for i in range(n_random))]
    grid = tuple(Condition(v, kind, layer, m) for v, kind in vectors for layer in layers for m in multipliers)
    return (Condition(vectors[0][0], "target", layers[0], 0.0), *grid)


def make_completions(rng, n_prompts, n_completions, n_tokens, answers, strange):
    words = [" " + "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(2, 8))) for _ in range(3000)]
    prompts = tuple(
        Prompt(f"p{i}", f"Question {i}?\n (A) one\n (B) two", (1, 2), ("A", "B"), "AB"[i % 2], "BA"[i % 2], f"c{i}")
        for i in range(n_prompts)
    )
    if strange:
        first = prompts[0]
        prompts = (Prompt("p<0>", STRANGE_PROMPT, (1, 2), ("A", "B"), "A", "B", first.cluster), *prompts[1:])
    pieces, ids, label, answer = [], [], [], []
    for i in range(n_prompts):
        for k in range(n_completions):
            given = answers[k % len(answers)]
            row = [words[j] for j in rng.integers(0, len(words), rng.integers(3, n_tokens))]
            at = int(rng.integers(0, len(row) - 1)) if given != "" else -1
            if at >= 0:
                row[at] = f" {given}"
            if strange and i == 0 and k < len(STRANGE):
                row = list(STRANGE[k])
                given = next((w.strip() for w in row if w.strip() in ("A", "B")), "")
                at = next((t for t, w in enumerate(row) if w.strip() == given), -1)
            ended = k % 4 != 3
            pieces.append((*row, "") if ended else tuple(row))
            ids.append([*(2 + rng.integers(0, 3000, len(row))), *([_EOS] if ended else [])])
            label.append(given)
            answer.append(at)
    lengths = np.array([len(row) for row in ids], dtype=np.int32)
    token_ids = np.full((len(ids), max(lengths)), -1, dtype=np.int32)
    for row, values in enumerate(ids):
        token_ids[row, : len(values)] = values
    mask = np.arange(token_ids.shape[1]) < lengths[:, None]
    return Completions(
        prompts=prompts,
        prompt_index=np.repeat(np.arange(n_prompts, dtype=np.int32), n_completions),
        token_ids=token_ids,
        lengths=lengths,
        counts=np.tile(1 + np.arange(n_completions, dtype=np.int32)[::-1] // 2, n_prompts),
        ended=token_ids[np.arange(len(ids)), lengths - 1] == _EOS,
        label=np.array(label),
        answer_index=np.array(answer, dtype=np.int32),
        logprob=np.where(mask, -rng.gamma(0.8, 1.5, token_ids.shape), np.nan),
        text=tuple("".join(row) for row in pieces),
        pieces=tuple(pieces),
        sampling=Sampling(n=100),
        labelling=Labelling(),
    )


def make_scores(rng, completions, conditions, layers):
    """Increases that lean to the matching answer; most tokens are hardly moved."""
    matching = np.array([p.matching for p in completions.prompts])[completions.prompt_index]
    side = np.where(completions.label == matching, 1.0, -1.0)[:, None]
    middle = layers[len(layers) // 2]
    logprob = np.empty((len(conditions), *completions.token_ids.shape), dtype=np.float32)
    for c, condition in enumerate(conditions):
        strength = condition.multiplier / (1 + abs(condition.layer - middle))
        push = strength * (0.3 if condition.kind == "target" else 0.05) * side - 0.1 * strength**2
        noise = rng.normal(0, 0.3, completions.token_ids.shape) * rng.gamma(0.5, 2.0, completions.token_ids.shape)
        logprob[c] = completions.logprob + push + strength * noise * 0.5
    return TokenScores(completions, tuple(conditions), completions.logprob, logprob)


def make_measures(rng, increases):
    """Plausible numbers, with the invariants that the statistics rely on: low <= value <= high."""
    n, conditions = len(increases.completions.prompts), increases.conditions
    shape = (len(conditions), n)
    p = rng.uniform(0.2, 0.8, n)
    push = np.array([0.4 * c.multiplier * (c.kind == "target") for c in conditions])[:, None]
    q = 1 / (1 + np.exp(-np.log(p / (1 - p)) - push - rng.normal(0, 0.05, shape)))
    width = rng.uniform(0.01, 0.2, shape)
    trust = np.where(width < 0.1, "certified", np.where(width < 0.15, "green", "red"))
    unsteered = {"p_A": p, "p_A_se": p * 0.1, "p_A_low": p * 0.98, "p_A_high": np.minimum(p * 1.02, 1.0)}
    unsteered |= {"first_A": p * 0.9, "first_B": (1 - p) * 0.9, "n_tokens": np.full(n, 9.0)}
    unsteered |= {"excess_surprisal": rng.normal(0, 0.1, n), "excess_surprisal_se": np.full(n, 0.1)}
    steered = {name: rng.uniform(0.1, 1.0, shape) for name in Measures.STEERED}
    steered |= {"p_A_steered": q, "p_A_steered_low": q - q * width, "p_A_steered_high": q + (1 - q) * width}
    steered |= {
        "first_A_steered": q * 0.9,
        "first_B_steered": (1 - q) * 0.9,
        "n_steered": np.zeros(shape),
        "n_broken": np.zeros(shape),
    }
    steered |= {"p_A_answer_only": np.sqrt(p * q), "p_A_reasoning_only": np.sqrt(p * q), "ess": 100 * width}
    return Measures(increases.completions.prompts, conditions, unsteered, steered, trust)


def make_config(target, layers, multipliers):
    return {
        "model": {"name": "/models/made-up"},
        "prompts": {"path": "prompts/<made> up.jsonl"},
        "sampling": {"n": 100, "greedy": False},
        "label": {"target": target},
        "scoring": {"layers": list(layers), "multipliers": list(multipliers)},
    }
