"""Would CUDA graphs or torch.compile pay? What a block costs the GPU, and what it costs to launch it from the host.

    python analysis/bench_launch.py --device cuda

A step of sampling is bound by the GPU where a block's time there is more than its launch, and by the host where it is
less: only then is there something to win. Per number of rows, medians in milliseconds: ``eager``, a block as we run
it; ``launch``, until the host is free again; ``compiled``, by torch.compile with CUDA graphs (mode reduce-overhead),
shapes fixed; ``worth``, eager over compiled. Sizes are those of a 7B model, in bfloat16 on a GPU, or of 15M with
``--small``. Nothing of this is in the package: what is not measured to pay is not there.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers

ROWS = (1, 8, 32, 128, 512, 2048)


def make_block(device: str, dtype: torch.dtype, *, small: bool) -> tuple[Any, Any, int]:
    """A block of a Llama with random weights, its rotary positions, and its width."""
    sizes = (288, 768, 6) if small else (4096, 11008, 32)
    config = transformers.LlamaConfig(
        hidden_size=sizes[0], intermediate_size=sizes[1], num_attention_heads=sizes[2], num_hidden_layers=1
    )
    config._attn_implementation = "sdpa"
    model = transformers.LlamaModel(config).to(device, dtype).eval()
    return model.layers[0], model.rotary_emb, sizes[0]


def time_calls(run: Callable[[], Any], device: str, repeats: int) -> tuple[float, float]:
    """Milliseconds until the result is there, and until the host is free again; medians."""
    done, launched = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        launched.append(time.perf_counter() - start)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        done.append(time.perf_counter() - start)
    return 1000 * statistics.median(done), 1000 * statistics.median(launched)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    args = parser.parse_args()
    dtype = torch.bfloat16 if args.device.startswith("cuda") else torch.float32
    block, rotary, width = make_block(args.device, dtype, small=args.small)
    mode = "reduce-overhead" if args.device.startswith("cuda") else "default"
    compiled = torch.compile(block, mode=mode)
    print(f"{'rows':>6}{'eager':>10}{'launch':>10}{'compiled':>10}{'worth':>8}")
    with torch.no_grad():
        for rows in args.rows:
            states = torch.randn(rows, 1, width, device=args.device, dtype=dtype)
            positions = rotary(states, torch.zeros(rows, 1, dtype=torch.long, device=args.device))
            options: dict[str, Any] = {"position_embeddings": positions, "attention_mask": None}
            runs = [partial(one, states, **options) for one in (block, compiled)]
            for run in runs * 3:
                run()
            (eager, launch), (graph, _) = (time_calls(run, args.device, args.repeats) for run in runs)
            print(f"{rows:6}{eager:10.3f}{launch:10.3f}{graph:10.3f}{eager / graph:8.2f}")


if __name__ == "__main__":
    main()
