"""Completions with the answer against those without it: whole distributions of the log-prob increase.

python analysis/distributions.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Distributions.of(report)
view.save("distributions")
print(view.caption)
