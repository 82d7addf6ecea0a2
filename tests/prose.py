"""What the tests of README and documentation share: their blocks of code, and a place in which these run."""

import re
from pathlib import Path

from completions_lp.job.config import DATA

ROOT = Path(__file__).resolve().parent.parent
SMALL = {
    '"Qwen/Qwen2.5-0.5B-Instruct"': f'"{DATA / "tiny-chooser"}"',
    "Sampling(n=100)": "Sampling(n=4, max_new_tokens=12)",
}
"""What the examples name, and what they are run with."""


def find_blocks(page, language, *, small=False):
    """The fenced blocks of a page in one language; ``small`` puts the embedded model and small numbers in."""
    text = Path(page).read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if small:
        for name, value in SMALL.items():
            found = [block.replace(name, value) for block in found]
    return found


def lay_out(folder, *, rows):
    """Write the prompts, the pairs and the configuration that the examples name."""
    for kind in ("prompts", "pairs"):
        lines = (DATA / kind / "cautious.jsonl").read_text(encoding="utf-8").splitlines()
        (folder / f"{kind}.jsonl").write_text("\n".join(lines[:rows]), encoding="utf-8")
    (folder / "my.toml").write_text(
        '[prompts]\npath = "prompts.jsonl"\nlimit = 8\n[vector]\npairs = "pairs.jsonl"\n'
        "[sampling]\nn = 4\nmax_new_tokens = 12\n[scoring]\nlayers = [2]\nmultipliers = [-1, 1]\n",
        encoding="utf-8",
    )
    return folder
