"""Can the numbers be believed? Trust, weights, effective draws, the sampler, and the null of the random directions.

Draws of the steered model itself are among them where ``completions-lp plan RUN_DIR --validate`` has made some.

    python analysis/diagnostics.py RUN_DIR
"""

import sys
from pathlib import Path

import completions_lp as clp

folder = Path(sys.argv[1])
view = clp.Diagnostics.of(clp.load(folder), validation=clp.read_validation(folder))
view.save("diagnostics")
print(view.caption)
