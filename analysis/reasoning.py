"""Chain of thought: where in the reasoning the log prob moves, and what is answered at its end.

python analysis/reasoning.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Reasoning.of(report)
view.save("reasoning")
print(view.caption)
