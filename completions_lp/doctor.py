"""Self-checks against full passes with plain torch hooks: one sequence at a time, no cache, padding or nnsight.

What half precision rounds is none of their business: a model in half precision is checked as a copy in float32, whole
or its first two and last two blocks, and what its rounding does to an increase is measured beside that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from completions_lp.job.config import PromptsSection
from completions_lp.model import (
    Model,
    copy_model,
    copy_wide,
    draw_rounding_vector,
    find_comparison,
    is_small,
    pick_engine,
    read_residuals,
)
from completions_lp.model.arithmetic import HALF
from completions_lp.prompts import first_difference, load_prompts
from completions_lp.records import Completions, InputError, Positions, Prompt, Sampling, SteeringVector, TokenScores
from completions_lp.sample.draws import sample_completions
from completions_lp.score.grid import score_tokens
from completions_lp.stats import join_signs
from completions_lp.steer.conditions import make_conditions

COUNTED = ("missing", "prompts")
"""Units of which there are whole numbers."""


@dataclass(frozen=True)
class Finding:
    """One check: the largest deviation seen, and what is allowed."""

    name: str
    value: float
    limit: float
    unit: str = "nats"

    @property
    def passed(self) -> bool:
        """Whether the deviation is a number within the limit."""
        return bool(self.value <= self.limit)

    def show(self, value: float, digits: int) -> str:
        """A number of this finding's unit: what is counted as it is, anything else with so many digits."""
        return f"{value:.0f}" if self.unit in COUNTED else f"{value:.{digits - 1}e}"


def check_model(model: Model, *, n_prompts: int = 4, seed: int = 0) -> list[Finding]:
    """Run every check on ``n_prompts`` of the embedded prompts; takes some dozens of small forward passes.

    Raises:
        InputError: The weights are NaN or infinite, or the tokenizer has ids that the model does not know.
    """
    model.fingerprint()
    whole, model = model, copy_wide(model)[0] if model.dtype in HALF else model
    section = PromptsSection()
    prompts = load_prompts(section.path, model.tokenizer, template=section.template, limit=n_prompts)
    limit = model.tolerance
    sampling = Sampling(n=3, max_new_tokens=8, seed=seed)
    completions = sample_completions(model, prompts, sampling=sampling, progress=False)
    vector = _draw_vector(model, prompts, seed)
    findings = [_check_site(model, prompts, limit)]
    for positions in ("completion", "all"):
        layers = sorted({0, model.n_layers // 2, model.n_layers - 1})
        conditions = make_conditions([vector], layers=layers, multipliers=(0.0, 1.0), positions=positions)
        scores = score_tokens(model, completions, [vector], conditions, progress=False)
        alone = score_tokens(model, completions, [vector], conditions, progress=False, batch_size=1)
        zero = [i for i, c in enumerate(conditions) if c.multiplier == 0]
        slow, moved = _compare_slow(model, scores, vector), _largest(scores.increase[zero], completions)
        batched = _largest(scores.logprob - alone.logprob, completions)
        findings += [
            Finding(f"scores = one full forward per sequence ({positions})", slow, limit),
            Finding(f"scores do not depend on the batch ({positions})", batched, limit),
            Finding(f"multiplier 0 changes nothing ({positions})", moved, limit / 50),
        ]
    sampled = _largest(scores.baseline - completions.logprob, completions)
    return [
        *findings,
        Finding("sampled log probs = scored log probs", sampled, limit),
        Finding("end of sequence is known", float(not whole.eos_ids), 0.0, "missing"),
        Finding("answers A and B can be told apart", _count_untold(model, prompts), 0.0, "prompts"),
    ]


def measure_rounding(model: Model, *, n_prompts: int = 4, seed: int = 0) -> dict[str, float]:
    """What rounding does to an increase, by the way of computing: float32, and half precision with either residual.

    The standard deviation, in nats per completion of 8 tokens, of the increase under a small direction, by both signs
    (``stats/rounding``), at a low, a middle and a high layer. Of the model itself, and of copies in the other
    precisions where they are small enough to be made.
    """
    section = PromptsSection()
    prompts = load_prompts(section.path, model.tokenizer, template=section.template, limit=n_prompts)
    sampling = Sampling(n=8, max_new_tokens=8, seed=seed)
    completions = sample_completions(model, prompts, sampling=sampling, progress=False)
    ways = [own := (model.dtype, model.residual)]
    if model.dtype != torch.float64 and is_small(model):
        half = model.dtype if model.dtype in HALF else torch.bfloat16
        ways = [(torch.float32, "float32"), (half, "float32"), (half, "weights")]
    found = {}
    for dtype, residual in ways:
        blocks = range(model.n_layers)
        one = model if (dtype, residual) == own else copy_model(model, blocks, dtype, residual=residual)
        vector = draw_rounding_vector(one)
        layers = sorted({min(1, model.n_layers - 1), model.n_layers // 2, max(0, model.n_layers - 2)})
        conditions = make_conditions([vector], layers=layers, multipliers=(-1.0, 1.0))
        scores = score_tokens(one, completions, [vector], conditions, engine=pick_engine(model), progress=False)
        sums = np.where(completions.mask, scores.increase, 0.0).sum(-1, dtype=np.float64)
        name = str(dtype).removeprefix("torch.")
        if dtype in HALF:
            name += " with a float32 residual stream" if residual == "float32" else " throughout"
        signs = sums.reshape(len(layers), 2, -1).swapaxes(0, 1)
        found[name] = float(join_signs(signs).std(-1).mean())
    return found


def format_findings(model: Model, findings: Sequence[Finding], rounding: Mapping[str, float] | None = None) -> str:
    """A line per check, what rounding does, and a verdict."""
    compared = find_comparison(model)
    lines = [
        f"{model.name}: {type(model.module).__name__}, {model.n_layers} layers, d_model {model.d_model}, "
        f"vocabulary {model.vocab_size}, {str(model.dtype).removeprefix('torch.')} on {model.device}",
        f"engine: {'shared prefix trees' if compared.exact else 'plain rows, which are slower'}: {compared.describe()}",
    ]
    for finding in findings:
        mark = "ok  " if finding.passed else "FAIL"
        lines.append(
            f"{mark} {finding.name}: {finding.show(finding.value, 2)} {finding.unit} "
            f"(allowed {finding.show(finding.limit, 1)})"
        )
    if rounding:
        told = "; ".join(f"{value:.1e} in {way}" for way, value in rounding.items())
        lines.append(f"rounding (sd of a completion's increase that should be 0, nats): {told}")
    failed = sum(not finding.passed for finding in findings)
    verdict = f"{failed} check{'s' if failed > 1 else ''} failed"
    lines.append(verdict if failed else "everything is computed right on this model")
    return "\n".join(lines)


def _draw_vector(model: Model, prompts: Sequence[Prompt], seed: int) -> SteeringVector:
    """A random vector a tenth as long as the residual stream it joins: it must matter, and not drown everything."""
    ids = [prompt.token_ids for prompt in prompts]
    residuals = read_residuals(model, ids, [len(i) - 1 for i in ids], range(model.n_layers)).double().numpy()
    rng = np.random.default_rng(seed)
    norms = np.linalg.norm(residuals, axis=-1).mean(-1)
    directions = rng.standard_normal((model.n_layers, model.d_model))
    directions *= 0.1 * norms[:, None] / np.linalg.norm(directions, axis=-1, keepdims=True)
    return SteeringVector("doctor", "random", dict(enumerate(directions)))


def _check_site(model: Model, prompts: Sequence[Prompt], limit: float) -> Finding:
    """The residual stream after block L is what transformers calls ``hidden_states[L + 1]``.

    Some families (Mamba) do not list what goes into the first block: there it is ``hidden_states[L]``.
    """
    ids = [prompt.token_ids for prompt in prompts]
    layers = range(max(1, model.n_layers - 1))  # the last hidden state is normed, so it is not the last block's output
    ours = read_residuals(model, ids, [len(i) - 1 for i in ids], layers)
    worst, into = 0.0, []
    handle = model.blocks[0]._module.register_forward_pre_hook(
        lambda _, args, kwargs: into.append((args[0] if args else kwargs["hidden_states"]).clone()), with_kwargs=True
    )
    try:
        states = [_list_states(model, sequence) for sequence in ids]
    finally:
        handle.remove()
    for row, (found, first) in enumerate(zip(states, into, strict=True)):
        shift = 1 if torch.equal(found[0], first) else 0
        for layer in layers:
            theirs = found[layer + shift][0, -1].to(ours)
            worst = np.maximum(worst, float((ours[layer, row] - theirs).norm() / theirs.norm()))
    return Finding("vectors are read at hidden_states[layer + 1]", float(worst), limit, "relative")


def _list_states(model: Model, sequence: Sequence[int]) -> Sequence[torch.Tensor]:
    """What transformers gives as hidden states of one text."""
    with torch.no_grad():
        output = model.module(torch.tensor([sequence], device=model.device), output_hidden_states=True, use_cache=False)
    found: Sequence[torch.Tensor] = output.hidden_states
    return found


def _compare_slow(model: Model, scores: TokenScores, vector: SteeringVector) -> float:
    """Largest difference per completion, in nats, to a full forward pass each, unsteered and steered."""
    completions = scores.completions
    worst = 0.0
    for row in range(len(completions)):
        n = completions.lengths[row]
        slow = _score_slowly(model, completions, row)
        worst = np.maximum(worst, abs(float((scores.baseline[row, :n] - slow).sum())))
        for c, condition in enumerate(scores.conditions):
            added = condition.multiplier * vector.directions[condition.layer]
            slow = _score_slowly(model, completions, row, condition.layer, added, condition.positions)
            worst = np.maximum(worst, abs(float((scores.logprob[c, row, :n] - slow).sum())))
    return float(worst)


def _score_slowly(
    model: Model,
    completions: Completions,
    row: int,
    layer: int | None = None,
    added: Float[np.ndarray, " d_model"] | None = None,
    positions: Positions = "completion",
) -> Float[np.ndarray, " token"]:
    prompt = completions.prompts[completions.prompt_index[row]].token_ids
    said = completions.token_ids[row, : completions.lengths[row]].tolist()
    start = len(prompt) - 1 if positions == "completion" else 0

    def add(_module: Any, _inputs: Any, output: Any) -> Any:
        whole = isinstance(output, tuple | list)
        hidden = (output[0] if whole else output).clone()
        hidden[:, start:] += torch.as_tensor(added).to(hidden)
        return type(output)((hidden, *output[1:])) if whole else hidden

    handle = None if layer is None else model.blocks[layer]._module.register_forward_hook(add)
    try:
        with torch.no_grad():
            logits = model.module(torch.tensor([[*prompt, *said]], device=model.device), use_cache=False).logits[0]
    finally:
        if handle is not None:
            handle.remove()
    logprob = logits[len(prompt) - 1 : -1].double().log_softmax(-1)
    return np.asarray(logprob.gather(-1, torch.tensor(said, device=logprob.device)[:, None])[:, 0].cpu())


def _largest(difference: Float[np.ndarray, "... completion token"], completions: Completions) -> float:
    """Largest |sum over a completion's tokens|; NaN if any of those is, whereas past the end nothing counts."""
    sums = np.where(completions.mask, difference, 0.0).sum(-1, dtype=np.float64)
    return float(np.abs(sums).max(initial=0.0))


def _count_untold(model: Model, prompts: Sequence[Prompt]) -> float:
    """Prompts whose two answers have the same tokens."""
    untold = 0
    for prompt in prompts:
        try:
            first_difference(prompt, prompt.matching, model.tokenizer)
        except InputError:
            untold += 1
    return float(untold)
