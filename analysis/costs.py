"""Effect against cost: the change of P(A) against KL per token, a line for each layer or, of several, each vector.

What stands above one another costs the same.

    python analysis/costs.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Costs.of(report)
view.save("costs")
print(view.caption)
