"""What goes to a model server and comes back, per unit of work: 32 prompts, 100 completions each, 32 conditions.

    python analysis/payload.py FOLDER --prompts PROMPTS.jsonl [--template chat]

Completions and numbers are of a real model, in FOLDER, run here; what travels is made of them exactly as for a server,
with directions of a 7B model's width, and is compressed as nnsight compresses it. A few prompts stand for 32. Prints a
table in Markdown: docs/guide/remote.md has it.
"""

import argparse
import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import zstandard

import completions_lp as clp
from completions_lp.model import Model
from completions_lp.model.parcel import pack
from completions_lp.model.pieces import Piece
from completions_lp.model.squeeze import squeeze
from completions_lp.model.wavefront import Wavefront
from completions_lp.records import Prompt, SteeringVector
from completions_lp.score.grid import _watch_answers
from completions_lp.work.batches import UNIT

WIDTH, LAYERS, MULTIPLIERS = 4096, 8, (-2.0, -1.0, 1.0, 2.0)
PROMPTS = 32


def measure(model: Model, prompts: Sequence[Prompt], n_tokens: int) -> list[float]:
    """Nodes and bytes for 32 prompts: draws up and down, scores up and down."""
    sampling = clp.Sampling(n=100, max_new_tokens=n_tokens)
    completions = clp.sample_completions(model, prompts, sampling=sampling, progress=False)
    rng, step = np.random.default_rng(0), model.n_layers // LAYERS
    layers = range(0, LAYERS * step, step)
    vector = SteeringVector("v", "target", {layer: 0.5 * rng.standard_normal(model.d_model) for layer in layers})
    conditions = clp.make_conditions([vector], layers=list(layers), multipliers=list(MULTIPLIERS))
    conditions = sorted((c for c in conditions if c.multiplier), key=lambda c: c.layer)
    watch = _watch_answers(model, completions, "matching") or []
    done = {
        layer: {
            "added": torch.from_numpy(rng.standard_normal((len(MULTIPLIERS), WIDTH))).float(),
            "which": list(range(i * len(MULTIPLIERS), (i + 1) * len(MULTIPLIERS))),
        }
        for i, layer in enumerate(layers)
    }
    asked, found, nodes = [], [], 0
    for i, prompt in enumerate(prompts):
        said = [completions.token_ids[row, : completions.lengths[row]].tolist() for row in completions.rows_of(i)]
        options: dict[str, Any] = {"divergences": True}
        asked.append(
            Piece(prompt.token_ids, said, reach=(False, None), rows=False, watch=watch[i], **options).ask([done])
        )
        front = Wavefront(model, [prompt.token_ids], [said], whole=False, watch=[watch[i]], **options)
        read = front._run({"v": vector}, conditions)
        used = np.unique(front.trees[0].edge_node)
        found.append(squeeze({k: x if k == "logprob" else x[:, used] for k, x in read.items()}))
        nodes += front.edge_node.shape[1]
    scale = PROMPTS / len(prompts)
    work = {"ids": [list(p.token_ids) for p in prompts], "samples": [list(range(100)) for _ in prompts]}
    drawn = [
        completions.token_ids[completions.token_ids >= 0].astype(np.int32),
        completions.logprob[completions.token_ids >= 0],
    ]
    up = [size(dict(pack(f"completions_lp.{name}").texts)) for name in ("sample.served:grow", "model.served:score")]
    vectors = size(done)
    return [
        nodes / len(prompts),
        up[0] + scale * size(work),
        scale * size([torch.from_numpy(x) for x in drawn]),
        up[1] + vectors + scale * (size(asked) - vectors),
        scale * size(found),
    ]


def size(value: Any) -> float:
    """Bytes of something that travels."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return len(zstandard.ZstdCompressor(level=6).compress(buffer.getvalue()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--template", default="chat")
    parser.add_argument("--n", type=int, default=3)
    parser.add_argument("--tokens", type=int, nargs="+", default=[5, 10, 20])
    asked = parser.parse_args()
    model = clp.load_model(asked.folder, dtype="float32")
    prompts = clp.load_prompts(asked.prompts, model.tokenizer, template=asked.template)[: asked.n]
    prompts = [replace(prompt) for prompt in prompts]
    print("| new tokens | nodes per prompt | draws up | draws down | scores up | scores down | units |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for n_tokens in asked.tokens:
        nodes, *spent = measure(model, prompts, n_tokens)
        units = max(1.0, np.ceil(nodes * PROMPTS * (1 + LAYERS * len(MULTIPLIERS)) / UNIT))
        cells = " | ".join(f"{number / 1e6:.2f} MB" for number in spent)
        print(f"| {n_tokens} | {nodes:.0f} | {cells} | {units:.0f} |")


if __name__ == "__main__":
    main()
