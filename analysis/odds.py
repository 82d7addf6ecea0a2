"""PrefOdds and UtilOdds over the multiplier, beside what the completions say of the same.

python analysis/odds.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Odds.of(report)
view.save("odds")
print(view.caption)
