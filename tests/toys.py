"""Toy language models small enough that every text can be written down, with its exact probability."""

import functools
from types import SimpleNamespace

import numpy as np

from completions_lp.stats import follow_steps

EOS, A, B, C, D = range(5)
VOCAB = 5


def normalise(logits):
    return logits - np.logaddexp.reduce(logits)


def random_law(seed, *, multiplier=0.0, scale=1.0, push=1.0, vocab=VOCAB):
    """Next-token log probs that depend on the whole history; the multiplier adds a random direction to the logits."""

    @functools.cache
    def law(prefix):
        rng = np.random.default_rng([seed, *prefix, vocab])
        logits, direction = scale * rng.standard_normal(vocab), push * rng.standard_normal(vocab)
        return normalise(logits + multiplier * direction)

    return law


def table_law(table):
    """A law by rules: ``table(prefix)`` gives the next token's probabilities."""

    @functools.cache
    def law(prefix):
        with np.errstate(divide="ignore"):
            return np.log(np.array(table(prefix), dtype=np.float64))

    return law


def enumerate_texts(law, steps, *, eos=EOS):
    """Every text of at most ``steps`` tokens that the law allows, in order."""
    texts = [()]
    for _ in range(steps):
        done = [text for text in texts if text and text[-1] == eos]
        going = [text for text in texts if not text or text[-1] != eos]
        texts = done + [(*text, v) for text in going for v in range(len(law(()))) if np.isfinite(law(text)[v])]
    return sorted(texts)


def logprob_of(law, text):
    return sum(law(text[:t])[v] for t, v in enumerate(text))


def first_answer(text, within, answers=((A,), (B,))):
    """Which answer the text gives first, 0 or 1, and where; (-1, -1) without one."""
    for t, v in enumerate(text[:within]):
        for index, tokens in enumerate(answers):
            if v in tokens:
                return index, t
    return -1, -1


def probability_of(law, steps, *, answer=0, answers=((A,), (B,)), eos=EOS):
    """P(answer within the window), by adding up every text."""
    texts = enumerate_texts(law, steps, eos=eos)
    return sum(np.exp(logprob_of(law, x)) for x in texts if first_answer(x, steps, answers)[0] == answer)


def hybrid_law(answering, reading, tokens=(A,)):
    """The tokens that complete A as likely as under one law, all others in the proportions of another."""

    @functools.cache
    def law(prefix):
        probs, hit = np.exp(reading(prefix)), np.zeros(len(reading(prefix)), dtype=bool)
        hit[list(tokens)] = True
        h = np.exp(answering(prefix))[hit].sum()
        probs = np.where(hit, np.exp(answering(prefix)), (1 - h) * probs / probs[~hit].sum())
        return np.log(probs)

    return law


def observe(p, conditions, texts, counts=None, *, within, answers=((A,), (B,)), eos=EOS):
    """What sampling and scoring give for these texts: the steps, and per token what each condition says of it."""
    shape = (len(texts), max(map(len, texts)))
    n, width = shape[0], max(shape[1], within)
    ids = np.full((n, width), -1)
    blank = functools.partial(np.full, fill_value=np.nan)
    got = SimpleNamespace(
        logp=blank((n, width)),
        ent=blank((n, width)),
        lpA=blank((n, width)),
        lpB=blank((n, width)),
        logq=blank((len(conditions), n, width)),
        kl=blank((len(conditions), n, width)),
        klr=blank((len(conditions), n, width)),
        lqA=blank((len(conditions), n, width)),
        lqB=blank((len(conditions), n, width)),
    )
    a, b = (list(tokens) for tokens in answers)
    for s, text in enumerate(texts):
        for t, v in enumerate(text):
            ids[s, t], logp = v, p(text[:t])
            probs = np.exp(logp)
            got.logp[s, t] = logp[v]
            got.ent[s, t] = -sum(x * y for x, y in zip(probs, logp, strict=True) if x > 0)
            got.lpA[s, t], got.lpB[s, t] = (np.logaddexp.reduce(logp[tokens]) for tokens in (a, b))
            for c, q in enumerate(conditions):
                logq = q(text[:t])
                both = (probs > 0) & np.isfinite(logq)
                got.logq[c, s, t] = logq[v]
                got.kl[c, s, t] = np.sum(probs[both] * (logp[both] - logq[both]))
                got.klr[c, s, t] = np.sum(np.exp(logq[both]) * (logq[both] - logp[both]))
                got.lqA[c, s, t], got.lqB[c, s, t] = (np.logaddexp.reduce(logq[tokens]) for tokens in (a, b))
    found = [first_answer(text, within, answers) for text in texts]
    got.lengths = np.array([len(text) for text in texts])
    got.mask = np.arange(width) < got.lengths[:, None]
    got.counts = np.ones(n, dtype=int) if counts is None else np.asarray(counts)
    got.answer = np.array([index for index, _ in found])
    got.steps = follow_steps(
        ids[:, :within],
        lengths=got.lengths,
        counts=got.counts,
        ended=np.array([text[-1] == eos for text in texts]),
        answer_index=np.array([where for _, where in found]),
        target=got.answer == 0,
        other=got.answer == 1,
    )
    got.delta = got.logq - got.logp
    for name in ("lpA", "lpB", "lqA", "lqB"):
        setattr(got, name, getattr(got, name)[..., :within])
    got.logw = got.steps.sum_before(got.delta[..., :within])
    got.none = np.zeros((1, n, within))
    return got


def observe_all(p, conditions, *, within, eos=EOS, **options):
    """Every text, counted by its exact probability: as if infinitely many had been drawn."""
    texts = enumerate_texts(p, within, eos=eos)
    weights = np.exp([logprob_of(p, text) for text in texts])
    return texts, observe(p, conditions, texts, weights, within=within, eos=eos, **options)


def sample_texts(law, steps, n, seed, *, eos=EOS):
    """Distinct texts of n ancestral draws, and how often each was drawn."""
    rng, drawn = np.random.default_rng(seed), {}
    for _ in range(n):
        text = ()
        while len(text) < steps and (not text or text[-1] != eos):
            text = (*text, int(rng.choice(len(law(text)), p=np.exp(law(text)))))
        drawn[text] = drawn.get(text, 0) + 1
    return list(drawn), list(drawn.values())
