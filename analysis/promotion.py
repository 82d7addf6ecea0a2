"""Promote and suppress: what steering does to the completions with the answer and to all others, prompt by prompt.

python analysis/promotion.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Promotion.of(report)
view.save("promotion")
print(view.caption)
