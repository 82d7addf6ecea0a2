"""The same work as others do it: every sample its own row, every condition its own pass.

Each peer is measured on some prompts, some samples and one condition, and its time is multiplied to the whole work by
the tokens that it would run; a full forward costs the same whichever layer is steered. Batches are smaller than a
user's would be (25 to 50 sequences instead of 100 at 15M and 125M), which favours the peers: their logits take less
memory.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import nnsight
import numpy as np
import torch
from bench_models import Case, share_weights
from torch import Tensor

from completions_lp.records import Completions, Condition


@dataclass(frozen=True, eq=False)
class Sequences:
    """One prompt's samples as full rows, duplicates and all."""

    past: int
    ids: Tensor
    mask: Tensor
    """Which of the new tokens are there."""

    @property
    def tokens(self) -> int:
        """Tokens of all rows, padding included."""
        return self.ids.numel()


def make_sequences(case: Case, completions: Completions, prompt: int, limit: int) -> Sequences:
    """The first ``limit`` samples of one prompt, a row each."""
    rows = np.flatnonzero(completions.prompt_index == prompt)
    rows = np.repeat(rows, completions.counts[rows])[:limit]
    width = int(completions.lengths[rows].max())
    said = torch.from_numpy(completions.token_ids[rows, :width].astype(np.int64))
    past = torch.tensor(completions.prompts[prompt].token_ids).expand(len(rows), -1)
    device = case.model.device
    ids = torch.cat([past, said.clamp(min=0)], 1).to(device)
    return Sequences(past.shape[1], ids, (said >= 0).to(device))


def read_logprobs(logits: Tensor, rows: Sequences) -> Tensor:
    """Summed log prob of each row's new tokens, from whole logits."""
    logprob = logits.float().log_softmax(-1)[:, rows.past - 1 : -1]
    values = logprob.gather(-1, rows.ids[:, rows.past :, None])[..., 0]
    return (values * rows.mask).sum(-1)


@torch.no_grad()
def score_hook(case: Case, rows: Sequences, layer: int, added: Tensor) -> Tensor:
    """The naive loop's body: a forward hook and a full forward."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        (output[0] if isinstance(output, tuple) else output)[:, rows.past - 1 :] += added
        return output

    handle = case.plain.get_decoder().layers[layer].register_forward_hook(hook)
    try:
        return read_logprobs(case.plain(rows.ids, use_cache=False).logits, rows)
    finally:
        handle.remove()


@torch.no_grad()
def score_nnsight(case: Case, rows: Sequences, layer: int, added: Tensor) -> Tensor:
    """As nnsight's documentation teaches it: edit a layer's output, save the logits."""
    network, block = case.model.network, case.model.blocks[layer]
    with network.trace(input_ids=rows.ids, use_cache=False):
        block.output[:, rows.past - 1 :] += added
        logits = nnsight.save(network.output.logits)
    return read_logprobs(logits, rows)


@torch.no_grad()
def score_steering_vectors(case: Case, rows: Sequences, layer: int, added: Tensor) -> Tensor:
    """As the steering-vectors package's documentation teaches it."""
    from steering_vectors import SteeringVector

    with SteeringVector(layer_activations={layer: added}).apply(case.plain, min_token_index=rows.past - 1):
        return read_logprobs(case.plain(rows.ids, use_cache=False).logits, rows)


Scorer = Callable[[Case, Sequences, int, Tensor], Tensor]
SCORERS: Mapping[str, Scorer] = {
    "naive HF loop": score_hook,
    "nnsight trace": score_nnsight,
    "steering-vectors": score_steering_vectors,
}


@torch.no_grad()
def sample_hf(case: Case) -> None:
    """``generate`` on the measured prompts."""
    for i in case.measured:
        ids = torch.tensor([case.prompts[i].token_ids], device=case.model.device)
        case.plain.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            top_k=0,
            top_p=1.0,
            temperature=1.0,
            num_return_sequences=case.setting.peer_samples,
            max_new_tokens=case.setting.new_tokens,
            pad_token_id=0,
        )


@contextmanager
def open_ctranslate2(case: Case) -> Iterator[Callable[[], None]]:
    """The same weights in ctranslate2, in float32: a function that samples the measured prompts."""
    import ctranslate2
    from ctranslate2.converters.transformers import LlamaLoader

    names = [str(i) for i in range(case.model.vocab_size)]
    ends = sorted(case.model.eos_ids)
    with tempfile.TemporaryDirectory() as folder:
        with torch.no_grad():
            spec = LlamaLoader().get_model_spec(share_weights(case.plain))  # it takes the module apart
        spec.register_vocabulary(names)
        spec.config.bos_token = spec.config.unk_token = names[0]
        spec.config.eos_token = names[ends[0] if ends else 0]
        spec.config.layer_norm_epsilon = case.plain.config.rms_norm_eps
        spec.validate()
        spec.optimize(quantization=None)
        spec.save(folder)
        generator = ctranslate2.Generator(
            folder,
            device=case.model.device.type,
            compute_type=str(case.model.dtype).removeprefix("torch."),
            intra_threads=torch.get_num_threads(),
        )

    def sample() -> None:
        steps = case.setting.new_tokens
        for i in case.measured:
            generator.generate_batch(
                [[names[token] for token in case.prompts[i].token_ids]],
                sampling_topk=0,
                num_hypotheses=case.setting.peer_samples,
                max_length=steps,
                min_length=0 if ends else steps,
                include_prompt_in_result=False,
            )

    yield sample


@contextmanager
def open_hf(case: Case) -> Iterator[Callable[[], None]]:
    """``generate``, in the same form."""
    yield lambda: sample_hf(case)


Sampler = Callable[[Case], AbstractContextManager[Callable[[], None]]]
SAMPLERS: Mapping[str, Sampler] = {"naive HF loop": open_hf, "ctranslate2": open_ctranslate2}
PACKAGES = {"steering-vectors": "steering_vectors", "ctranslate2": "ctranslate2"}


def missing(peer: str) -> bool:
    """Whether a peer needs a package that is not installed."""
    return peer in PACKAGES and importlib.util.find_spec(PACKAGES[peer]) is None


def open_samplers(case: Case, stack: ExitStack) -> dict[str, Callable[[], None]]:
    """Every sampler that can run on this model; one line for one that cannot."""
    opened = {}
    for name, sampler in SAMPLERS.items():
        if missing(name):
            continue
        try:
            opened[name] = stack.enter_context(sampler(case))
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            print(f"{name} does not take {case.setting.name} ({type(error).__name__}: {error}); its row is left out")
    return opened


def steer(case: Case, condition: Condition) -> Tensor:
    """What a condition adds to the residual stream."""
    direction = condition.multiplier * case.vector.directions[condition.layer]
    return torch.from_numpy(np.asarray(direction)).to(case.model.device, case.model.dtype)
