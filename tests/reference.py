"""The slow twins: every number of the package computed the obvious way, one sequence at a time, in float64.

Full forward passes, plain torch hooks, no cache, no batch, no sharing. Nothing here imports the code that it checks.
"""

import itertools
import math

import numpy as np
import torch


def blocks_of(module):
    """Decoder blocks: of the families that the tests build, the list of modules as long as the model is deep."""
    depth = module.config.get_text_config().num_hidden_layers
    lists = [part for part in module.modules() if isinstance(part, torch.nn.ModuleList) and len(part) == depth]
    (blocks,) = [part for part in lists if type(part[0]).__name__.endswith(("Layer", "Block", "BLOCK"))]
    return blocks


@torch.no_grad()
def logits_of(module, ids, *, layer=None, added=None, start=0):
    """[token, vocab] logits of one sequence in float64; ``added`` joins block ``layer``'s output from ``start`` on."""

    def hook(_module, _inputs, output):
        whole = isinstance(output, tuple | list)
        hidden = (output[0] if whole else output).clone()
        hidden[:, start:] += torch.as_tensor(added).to(hidden)
        return type(output)((hidden, *output[1:])) if whole else hidden

    handle = None if layer is None else blocks_of(module)[layer].register_forward_hook(hook)
    try:
        return module(torch.tensor([list(ids)]), use_cache=False).logits[0].double()
    finally:
        if handle is not None:
            handle.remove()


def score(module, prompt, completion, *, layer=None, added=None, positions="completion"):
    """[token] log probs, in nats, of one completion."""
    start = len(prompt) - 1 if positions == "completion" else 0
    logits = logits_of(module, [*prompt, *completion], layer=layer, added=added, start=start)
    logprob = logits.log_softmax(-1)
    return np.array([float(logprob[len(prompt) - 1 + t, token]) for t, token in enumerate(completion)])


def edit(hidden, direction, operation, multiplier, span=None):
    """One hidden state under an operation along a direction; ``span`` is (centre, scale), for a clamp."""
    unit = direction / np.linalg.norm(direction)
    component = float(unit @ hidden)
    if operation == "add":
        return hidden + multiplier * direction
    wanted = (1 - multiplier) * component if operation == "ablate" else span[0] + multiplier * span[1]
    return hidden + (wanted - component) * unit


def is_steered(place, n_prompt, positions):
    """Whether the token at a place, counted from the first of the prompt, is steered."""
    said = place - (n_prompt - 1)
    if positions.startswith("first:"):
        return 0 <= said < int(positions[len("first:") :])
    return {"all": True, "prompt": place < n_prompt, "completion": said >= 0}[positions]


@torch.no_grad()
def score_under(module, prompt, completion, condition, vector):
    """[token] log probs, in nats, of one completion under any condition, each hidden state edited by itself."""

    def hook_at(layer):
        span = vector.spans.get(layer)
        how = vector.directions[layer], condition.operation, condition.multiplier, span and (span.centre, span.scale)

        def hook(_module, _inputs, output):
            whole = isinstance(output, tuple | list)
            hidden = (output[0] if whole else output).clone()
            for place in range(hidden.shape[1]):
                if is_steered(place, len(prompt), condition.positions):
                    steered = edit(hidden[0, place].double().numpy(), *how)
                    hidden[0, place] = torch.from_numpy(steered).to(hidden)
            return type(output)((hidden, *output[1:])) if whole else hidden

        return hook

    layers = [condition.layer, *condition.beyond]
    handles = [blocks_of(module)[layer].register_forward_hook(hook_at(layer)) for layer in layers]
    try:
        return score(module, prompt, completion)
    finally:
        for handle in handles:
            handle.remove()


def cut(completion, answer, within, through):
    """The tokens of a completion that are scored, one by one; ``answer`` is the index of the answer's token, or -1."""
    kept = []
    for t, token in enumerate(completion):
        if through == "answer" and 0 <= answer < t:
            break
        if through == "window" and t == within:
            break
        if through == "answer" and answer < 0 and t == within:
            break
        kept.append(token)
    return kept


def sample(module, prompt, uniforms, *, eos_ids=(), temperature=1.0, layer=None, added=None, positions="completion"):
    """One completion, a full forward per token: the first token whose cumulative probability exceeds the number."""
    completion = []
    start = len(prompt) - 1 if positions == "completion" else 0
    for u in uniforms:
        logits = logits_of(module, [*prompt, *completion], layer=layer, added=added, start=start)[-1]
        probs = (logits / temperature).softmax(-1).numpy()
        token = int(np.searchsorted(np.cumsum(probs), u * probs.sum(), side="right"))
        completion.append(token)
        if token in eos_ids:
            break
    return completion


def warp(logits, *, temperature=1.0, top_k=0, top_p=1.0):
    """[vocab] probabilities after temperature, top-k and top-p: likely tokens are kept until they hold ``top_p``."""
    p = np.exp((logits - logits.max()) / temperature)
    order = np.argsort(-p)
    kept = order[:top_k] if top_k else order
    p = np.where(np.isin(np.arange(len(p)), kept), p, 0.0)
    p /= p.sum()
    held, cut = 0.0, np.zeros(len(p), dtype=bool)
    for token in order:
        cut[token] = held >= top_p
        held += p[token]
    p[cut] = 0.0
    return p / p.sum()


@torch.no_grad()
def residual(module, ids, index, layer):
    """[d_model] residual stream at one token, at the output of one block, in float64."""
    found = {}

    def hook(_module, _inputs, output):
        found["h"] = (output[0] if isinstance(output, tuple) else output)[0, index].double()

    handle = blocks_of(module)[layer].register_forward_hook(hook)
    try:
        module(torch.tensor([list(ids)]), use_cache=False)
    finally:
        handle.remove()
    return found["h"].numpy()


def mean_difference(module, pairs, layer):
    """[d_model] mean over pairs, one text at a time."""
    return np.mean(
        [
            residual(module, pair.positive, pair.positive_index, layer)
            - residual(module, pair.negative, pair.negative_index, layer)
            for pair in pairs
        ],
        axis=0,
    )


def enumerate_completions(module, prompt, *, steps, eos_ids=(), positions="completion", **steering):
    """Every completion of at most ``steps`` tokens with its exact probability: {ids: probability}."""
    exact = {}
    start = len(prompt) - 1 if positions == "completion" else 0

    def walk(completion, logprob):
        if len(completion) == steps or (completion and completion[-1] in eos_ids):
            exact[tuple(completion)] = math.exp(logprob)
            return
        step = logits_of(module, [*prompt, *completion], start=start, **steering)[-1].log_softmax(-1)
        for token in range(len(step)):
            walk([*completion, token], logprob + float(step[token]))

    walk([], 0.0)
    return exact


def mean_increase(exact, steered, keep):
    """E[increase | keep] in nats, from two enumerations of the same completions."""
    kept = [ids for ids in exact if keep(ids)]
    mass = sum(exact[ids] for ids in kept)
    return sum(exact[ids] * (math.log(steered[ids]) - math.log(exact[ids])) for ids in kept) / mass


def prompt_means(values, counts, prompt_index, n_prompts):
    """Count-weighted mean of the values of each prompt, by a loop over every single draw; NaN without one."""
    draws = [[] for _ in range(n_prompts)]
    for value, count, prompt in zip(values, counts, prompt_index, strict=True):
        draws[prompt].extend(itertools.repeat(value, count))
    return np.array([np.mean(values) if values else np.nan for values in draws])


def share_windows(draws, weigh):
    """P(A) where whole windows decide, by a loop over every single draw: its estimate, error, and certain bounds.

    ``draws`` are (window, whether it gave A, whether it had come to a stop), one for each draw; ``weigh`` gives a
    window's probability under the condition, and under what it was drawn from.
    """
    weights = np.array([weigh(window)[0] / weigh(window)[1] for window, *_ in draws])
    hits = np.array([float(hit) for _, hit, _ in draws])
    value = sum(w * hit for w, hit in zip(weights, hits, strict=True)) / sum(weights)
    influence = weights * (hits - value) / np.mean(weights)
    seen = {window: hit for window, hit, stopped in draws if stopped}
    low = sum(weigh(window)[0] for window, hit in seen.items() if hit)
    high = 1 - sum(weigh(window)[0] for window, hit in seen.items() if not hit)
    return float(np.clip(value, low, high)), np.std(influence, ddof=1) / math.sqrt(len(draws)), low, high, influence


def read_choices(module, prompt, written, texts, **steering):
    """[choice, 2] log probs that each answer is said, from whole logits: in any spelling, and whole.

    ``written`` are the token ids of each answer, ``texts`` what each token of the vocabulary spells. An answer is said
    with the first token after which no other answer is possible, or by another token that spells the same there.
    """
    shared = 0
    while all(len(ids) > shared and ids[shared] == written[0][shared] for ids in written):
        shared += 1

    def ends(ids):
        others = [other for other in written if other is not ids]
        found = [t for t in range(len(ids)) if all(other[: t + 1] != ids[: t + 1] for other in others)]
        return found[0] if found else None

    def spell(ids, end):
        rest = "".join(texts[t] for t in ids[end:])
        return {t for t, text in enumerate(texts) if text and text in (texts[ids[end]], rest)} | {ids[end]}

    rows = []
    for ids in written:
        logits = logits_of(module, [*prompt, *ids], **steering)
        law = logits[len(prompt) - 1 :].softmax(-1)
        end = ends(ids)
        whole = sum(math.log(law[t, ids[t]]) for t in range(shared, len(ids)))
        if end is None:
            rows.append((math.nan, math.nan))
            continue
        tokens = spell(ids, end)
        for other in written:
            if other is not ids and other[:end] == ids[:end]:
                tokens -= set(other[end : end + 1]) | (spell(other, end) - {ids[end]} if ends(other) == end else set())
        before = math.prod(float(law[t, ids[t]]) for t in range(shared, end))
        rows.append((math.log(before * sum(float(law[end, t]) for t in tokens)), whole))
    return np.array(rows)


def weigh_choices(logprob, target, matching):
    """Every number that the log probs of all choices give, by plain arithmetic."""
    p = [math.exp(x) for x in logprob]
    mass, rest = sum(p), sum(x for i, x in enumerate(p) if i != target)
    return {
        "mass": mass,
        "p_choice": p[target] / mass,
        "pref_odds": math.log(p[target] / rest),
        "util_odds": math.log(mass / (1 - mass)),
        "greedy": float(max(range(len(p)), key=p.__getitem__) == matching),
    }


def attend(query, keys, values, visible, scale):
    """Attention of one node and head by definition: ``visible`` lists the keys that it sees."""
    scores = np.array([query @ keys[k] * scale for k in visible])
    weights = np.exp(scores - scores.max())
    return sum(w * values[k] for w, k in zip(weights / weights.sum(), visible, strict=True))


def split_swapped(effects, letters, matching):
    """Behaviour, letter and common part of one pair, cell by cell: ``effects[order][letter]``, ``matching[order]``."""
    first = sorted(letters)[0]
    behaviour = letter_part = common = 0.0
    for order in (0, 1):
        for letter in letters:
            effect = effects[order][letter]
            behaviour += effect / 4 if letter == matching[order] else -effect / 4
            letter_part += effect / 4 if letter == first else -effect / 4
            common += effect / 4
    return {"behaviour": behaviour, "letter": letter_part, "common": common}
