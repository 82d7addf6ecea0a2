"""Vectors at the same cost, layer by layer: each line is a vector, and what stands above one another costs the same.

For a run of `analysis/equal_kl.toml`; of any run with several vectors, or with few random directions, it shows those.

    python analysis/equal_kl.py RUN_DIR [NAME]
"""

import sys

import completions_lp as clp

report, *name = clp.load(sys.argv[1]), *sys.argv[2:]
view = clp.LayerSweep.of(report)
view.save(name[0] if name else "equal_kl")
print(view.caption)
