"""A model on a server: what its client knows of it. Its weights are never here."""

import copy
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nnsight.modeling.huggingface
import numpy as np
import torch
from nnsight import TransformersModel

from completions_lp.checkpoint import Checkpoint, locate, read_adapter
from completions_lp.model.arithmetic import HALF
from completions_lp.model.checkpoint import read_tokenizer
from completions_lp.model.loading import TOLERANCES, Model
from completions_lp.model.output import list_forms
from completions_lp.model.parts import find_blocks, find_context, find_envoy, find_eos
from completions_lp.model.pieces import Piece
from completions_lp.model.sending import SERVED, pack_edits
from completions_lp.model.server import Server, find_host
from completions_lp.records import Condition, InputError, SteeringVector
from completions_lp.records.base import Notice


@dataclass(frozen=True, eq=False)
class RemoteModel(Model):
    """A model behind nnsight that runs on a server; there is no way to a number of it but ``server.call``."""

    weights: str = ""
    """Stands for its weights: the commit of the hub, or the hash of a local folder."""
    checked: Mapping[str, Any] | None = None
    """What its server has told of itself."""

    @property
    def module(self) -> Any:
        """The transformers module without its weights."""
        return self.server.network._module

    @property
    def n_layers(self) -> int:
        """Number of decoder blocks."""
        return len(self.server.told["blocks"])

    @property
    def device(self) -> torch.device:
        """Where arrays are made that go to the server."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Precision in which the server holds it."""
        found: torch.dtype = getattr(torch, self.server.told["dtype"])
        return found

    def describe(self) -> dict[str, Any]:
        """What a run records of it."""
        told = {"host": self.server.host, "server": dict(self.checked or {})}
        return {**super().describe(), "device": "remote", **told}

    def fingerprint(self) -> str:
        """Stands for the weights: which commit of the hub they are."""
        return self.weights


def load_remote(name: str | Path, *, revision: str | None = None, remote: bool | str = True) -> RemoteModel:
    """A model that is deployed on a server, by its hub name; ``remote`` is the address, or True for NDIF's.

    Only its configuration and its tokenizer are fetched. The server is asked once what it holds, and whether
    completions can share their beginnings on it.

    Raises:
        InputError: The name or the address is none, the server does not have the model, or it cannot be steered there.
    """
    host, checkpoint = find_host(remote), locate(name, revision)
    if checkpoint.gguf or read_adapter(checkpoint) is not None:
        raise checkpoint.error("a server has whole models, by their hub names; this is a GGUF file or an adapter")
    tokenizer = read_tokenizer(checkpoint)
    network = _open_network(checkpoint, copy.deepcopy(tokenizer))
    module = network._module
    config, head = module.config.get_text_config(), module.get_output_embeddings()
    blocks = find_blocks(network, config.num_hidden_layers)
    decoder = module.get_decoder()
    parts = (*blocks, find_envoy(network, head), network if decoder is module else find_envoy(network, decoder))
    *paths, output, inner = (envoy.path.removeprefix(network.path).removeprefix(".") for envoy in parts)
    told = {"blocks": paths, "head": output, "decoder": inner}
    server = Server(network, network.to_model_key(), host, {**told, "rows": False, "dtype": "float32"})
    model = RemoteModel(
        name=checkpoint.name,
        revision=checkpoint.commit,
        network=None,
        blocks=(),
        tokenizer=tokenizer,
        d_model=int(config.hidden_size),
        vocab_size=int(head.weight.shape[0]),
        context_length=find_context(config),
        eos_ids=find_eos(module, tokenizer),
        residual_dtype=torch.float32,
        usage=server.usage,
        server=server,
        weights=_name_weights(checkpoint),
    )
    return _examine(model)


def _open_network(checkpoint: Checkpoint, tokenizer: Any) -> Any:
    """The wrapper without weights; a folder is known to its server by the same path."""
    if checkpoint.local:
        nnsight.modeling.huggingface._ID_CACHE.setdefault(checkpoint.name, checkpoint.name)
    options = {} if checkpoint.local else {"revision": checkpoint.revision or "main"}
    return TransformersModel(checkpoint.name, task="text-generation", tokenizer=tokenizer, **options)


def _name_weights(checkpoint: Checkpoint) -> str:
    """Which weights they are, without loading any: the hub's commit; of a folder a hash of its files."""
    if not checkpoint.local:
        return f"hub:{checkpoint.commit}"
    digest = hashlib.sha256()
    for path in sorted(Path(checkpoint.name).glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return f"folder:{digest.hexdigest()}"


def _examine(model: RemoteModel) -> RemoteModel:
    """The model with what its server tells: its precision, the form of its head, whether trees are exact on it."""
    rng, server = np.random.default_rng(0), model.server
    prompt, stem = (rng.integers(0, model.vocab_size, size).tolist() for size in (7, 6))
    said = [stem, [*stem[:3], stem[0]], stem[:1], stem[::-1]]
    scale = 1 / np.sqrt(model.d_model)
    layers = sorted({0, model.n_layers // 2, model.n_layers - 1})
    vector = SteeringVector("check", "random", {n: scale * rng.standard_normal(model.d_model) for n in layers})
    conditions = [Condition("check", "random", layer, 1.0) for layer in layers]
    done = pack_edits({"check": vector}, conditions)
    pieces = [Piece(prompt, said, reach=(False, None), rows=rows) for rows in (False, True)]
    forms = [list(form) for form in list_forms(model.module.config.get_text_config())]
    trials = [piece.ask([done]) for piece in pieces]
    checked = server.call(f"{SERVED}:examine", {"forms": forms, "ids": torch.tensor([prompt]), "trials": trials})
    if checked["form"] is None:
        raise InputError(f"model {model.name!r}: its output head on {server.host} is of a form that is not known here")
    reason = checked["reason"] or _compare(pieces, checked["found"], getattr(torch, checked["dtype"]))
    told = {"dtype": checked["dtype"], "form": list(checked["form"]), "rows": bool(reason)}
    server.told = {**server.told, **told}
    if reason:
        slow = f"{model.name} takes the plain path on {server.host}, which is slower: {reason}"
        warnings.warn(slow, Notice, stacklevel=4)
    model.usage.engine = "rows" if reason else "tree"
    versions = {name: checked[name] for name in ("torch", "transformers", "nnsight")}
    return replace(model, residual_dtype=model.dtype, checked=versions)


def _compare(pieces: Sequence[Piece], found: Sequence[Mapping[str, Any]], dtype: torch.dtype) -> str:
    """Why trees are not exact there; empty where they are.

    In half precision two right layouts differ by rounding, now and then by much: there it is the typical difference
    that counts, since there are no wider weights to compare with.
    """
    trees, rows = (
        np.where(piece.mask, piece.read(arrays).logprob, 0.0).sum(-1)
        for piece, arrays in zip(pieces, found, strict=True)
    )
    off = float(np.sqrt(np.mean((trees - rows) ** 2)) if dtype in HALF else np.abs(trees - rows).max())
    tolerance = TOLERANCES[dtype]
    return "" if off <= tolerance else f"the shared tree is {off:.1e} nats off on it, and {tolerance:.0e} is allowed"
