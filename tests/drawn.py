"""Increases, choices and measures drawn at random, with the awkward prompts that real ones have."""

import numpy as np

from completions_lp.records import Choices, Completions, Condition, Increases, Labelling, Measures, Prompt, Sampling

MULTIPLIERS = (-2.0, -1.0, 0.0, 1.0, 2.0)
PER_PROMPT = 5


def list_conditions(*, layers=(0, 1), multipliers=MULTIPLIERS, n_random=0, n_shuffled=0, negated=False):
    """The grid of the target vector ``v`` and of its controls."""
    names = [("v", "target"), *([("v-negated", "negated")] if negated else [])]
    names += [(f"v-random-{i}", "random") for i in range(n_random)]
    names += [(f"v-shuffled-{i}", "shuffled") for i in range(n_shuffled)]
    return tuple(Condition(name, kind, layer, m) for name, kind in names for layer in layers for m in multipliers)


def draw_prompts(n, *, per_cluster=1):
    """Prompts with A and B, in clusters of equal size."""
    return tuple(
        Prompt(f"p{i}", f"text {i}", (1, 2), ("A", "B"), "AB"[i % 2], "BA"[i % 2], f"c{i // per_cluster:04d}")
        for i in range(n)
    )


def draw_increases(n_prompts=10, conditions=None, *, seed=0, per_cluster=1, sampling=None):
    """Increases that grow with the multiplier and are damaged with its square; the first prompt never says A."""
    rng = np.random.default_rng(seed)
    conditions = list_conditions() if conditions is None else conditions
    prompts = draw_prompts(n_prompts, per_cluster=per_cluster)
    index = np.repeat(np.arange(n_prompts), PER_PROMPT).astype(np.int32)
    size = len(index)
    label = np.tile(np.array(["A", "B", "A", "", "B"]), n_prompts)
    label[:PER_PROMPT] = "B"
    answered = label != ""
    completions = Completions(
        prompts=prompts,
        prompt_index=index,
        token_ids=np.ones((size, 3), dtype=np.int32),
        lengths=np.full(size, 3, dtype=np.int32),
        counts=rng.integers(1, 9, size).astype(np.int32),
        ended=np.ones(size, dtype=bool),
        label=label,
        answer_index=np.where(answered, 1, -1).astype(np.int32),
        logprob=np.full((size, 3), -1.0),
        text=("text",) * size,
        pieces=(("te", "x", "t"),) * size,
        sampling=sampling or Sampling(),
        labelling=Labelling(),
    )
    m = np.array([c.multiplier for c in conditions]).reshape(-1, 1)
    push = np.array([1.0 if c.kind == "target" else 0.1 for c in conditions]).reshape(-1, 1)
    shape = (len(conditions), size)
    value = push * m * np.where(label == "A", 0.5, -0.2) - 0.3 * m**2 + 0.2 * np.abs(m) * rng.normal(size=shape)
    parts = [np.where(answered, 1.0, np.nan) * value * share for share in (0.25, 0.65, 0.1)]
    return Increases(completions, tuple(conditions), np.full(size, -3.0), value, 0.9 * value, *parts)


def draw_choices(increases, *, seed=0):
    """A random read-out, A first."""
    rng = np.random.default_rng(seed)
    prompts, conditions = increases.completions.prompts, increases.conditions
    before = np.log(rng.dirichlet([2, 2, 1], size=len(prompts))[:, :2])
    m = np.array([c.multiplier for c in conditions]).reshape(-1, 1, 1)
    noise = rng.normal(size=(len(conditions), len(prompts), 2))
    after = before + m * np.array([0.1, -0.3]) + 0.05 * np.abs(m) * noise
    return Choices(prompts, (("A", "B"),) * len(prompts), conditions, before, np.minimum(after, -1e-3))


def draw_measures(increases, *, seed=0, effect=0.5):
    """Random measures: the second prompt says A for certain, and under the last condition the third never does."""
    rng = np.random.default_rng(seed)
    prompts, conditions = increases.completions.prompts, increases.conditions
    n, shape = len(prompts), (len(conditions), len(prompts))
    m = np.array([c.multiplier for c in conditions]).reshape(-1, 1)
    push = np.array([effect if c.kind == "target" else 0.02 for c in conditions]).reshape(-1, 1)

    def within(*size):
        return rng.uniform(0.05, 0.45, size=size)

    p = rng.uniform(0.1, 0.8, size=n)
    score = np.log(p / (1 - p)) + push * m + 0.2 * np.abs(m) * rng.normal(size=shape)
    q = np.where(m == 0, p, 1 / (1 + np.exp(-score)))
    if n > 2 and len(conditions):
        p[1], q[:, 1], q[-1, 2] = 1.0, 1.0, 0.0
    unsteered = {name: within(n) for name in Measures.UNSTEERED if name != "excess_surprisal_se"}
    unsteered |= {"p_A": p, "n_tokens": rng.uniform(2, 9, size=n), "excess_surprisal": rng.normal(size=n)}
    unsteered["excess_surprisal_se"] = np.ones(n)
    steered = {name: within(*shape) for name in Measures.STEERED}
    steered |= {
        "n_broken": np.zeros(shape),
        "p_A_steered": q,
        "kl": m**2 * np.exp(rng.normal(size=shape)),
        "ess": 100 * within(*shape),
    }
    trust = rng.choice(["certified", "green", "red"], p=[0.5, 0.3, 0.2], size=shape)
    return Measures(prompts, conditions, unsteered, steered, trust)


def change(measures, **columns):
    """Measures with some columns replaced."""
    unsteered = {name: columns.pop(name, values) for name, values in measures.unsteered.items()}
    steered = {name: columns.pop(name, values) for name, values in measures.steered.items()}
    trust = columns.pop("trust", measures.trust)
    assert not columns
    return Measures(measures.prompts, measures.conditions, unsteered, steered, trust)
