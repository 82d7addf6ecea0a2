"""P(A) against the multiplier, one line per layer, all through the unsteered probability at 0.

python analysis/probabilities.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Probabilities.of(report)
view.save("probabilities")
print(view.caption)
