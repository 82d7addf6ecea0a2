"""Write docs/models.md: which way each family of transformers' causal models takes through the network.

    python docs/models.py

A tiny random model of each is made and tried, by the list that the tests have (tests/families.py). A test fails where a
family takes another way than the page says.
"""

import sys
from pathlib import Path as File

sys.path.insert(0, str(File(__file__).parent.parent / "tests"))

import conftest  # before all else, as it imports what must be first
import transformers
from families import Path, find_path, list_families

PAGE = File(__file__).parent / "models.md"
HEADING = "## Families"
OPENING = """# Models

<!-- Written by docs/models.py: change that, or the package, and run it. -->

Any decoder of transformers with its blocks in a list can be measured, if its numbers are right. That is found by
trying, once when a model is loaded, in a few passes of a dozen tokens; half precision is tried as a float32 copy of a
few blocks. What `run`, `score` and `sample` then do is one of these:

| way | what goes through the network | when |
|---|---|---|
| trees | each distinct prefix of a prompt's completions once, each layer below the steered one once | the fast way |
| rows | the prompt once, each completion in a row of its own | a tree would not be exact, or does not run; one \
notice says which and why |
| whole texts | prompt and completion, for every completion | keys and values do not continue the model: \
state-space and hybrid layers remember something else, or positions are counted without regard to padding |
| refused | nothing: one line says why, before any work | see below |

`completions-lp doctor --model NAME` [tries yours](guide/doctor.md), with more checks.

## What is refused

- *Reads ahead*: what it says of a token changes with the tokens after it (BERT and its kin without `is_decoder`, a
  prefix of PaliGemma). Such numbers are no probabilities of saying anything.
- *No single residual stream*: a block puts out several streams at once (Gemma 3n, DeepSeek V4: hyper-connections), or
  more positions than there are tokens.
- *A block runs twice or not at all*, so that a vector would come in more than once, or be lost (the cross-attention
  blocks of Mllama over text alone).
- *The stream is changed between blocks*, so that what is added to one block's output is not what the next one takes
  in.
- *What one text gets depends on the others beside it.*

## How long a text may be

As long as `max_position_embeddings` says, where the configuration has it. Where rotary positions are stretched once a
text is longer than the model was trained on (`rope_type` `"longrope"` or `"dynamic"`, as in Phi-3 with 128k), numbers
of every text in a batch depend on the longest one. So there the end is `original_max_position_embeddings`.

## Checkpoints

| `[model] name` | needs | notes |
|---|---|---|
| a folder, a hub name | | safetensors; pictures and sound are left out of a multimodal model, its text goes through |
| `"PATH/x.gguf"` | `pip install "completions-lp[gguf]"` | weights are widened as they are read; the tokenizer is \
the file's own, and its quantisation is named in `run.json` |
| a LoRA folder (`adapter_config.json`) | `pip install "completions-lp[peft]"` | merged into the model that it \
names, so both are in the fingerprint; `adapter_model.safetensors` only |
| quantised to 4 or 8 bits (`quantization_config`) | bitsandbytes, torchao or what its method names | stays as it \
is; `run.json` names it; rounding is measured as for any half precision |

Nothing in a checkpoint is unpickled or run: `trust_remote_code` is off, and files of weights other than safetensors
and GGUF are refused.
"""
ORDER = ("trees", "rows", "whole texts", "refused", "not tried")


def write_page() -> str:
    """The page as Markdown."""
    transformers.utils.logging.set_verbosity_error()
    tokenizer = conftest.make_tokenizer()
    found = {family: find_path(family, tokenizer) for family in list_families()}
    counts = [f"{sum(path.path == name for path in found.values())} {name}" for name in ORDER]
    lines = [
        OPENING,
        HEADING,
        "",
        "A tiny random model of each is tried. *Not tried*: none so small could be made, or run on text alone.",
        "",
        f"Tried with transformers {transformers.__version__}: {', '.join(counts)}.",
        "",
        "| family | way | why |",
        "|---|---|---|",
    ]
    lines += [f"| `{family}` | {path.path} | {_cell(path.reason)} |" for family, path in found.items()]
    return "\n".join(lines) + "\n"


def read_page() -> dict[str, Path]:
    """What the page says, by family."""
    rows = PAGE.read_text(encoding="utf-8").split(HEADING)[1].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows if row.startswith("| `")]
    return {family.strip("`"): Path(way, why.replace("\\|", "|")) for family, way, why in cells}


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")[:300]


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    print(PAGE)
