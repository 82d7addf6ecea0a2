"""The sampled metric against the two-choice logit diff, in every cell of layer and multiplier.

With ``layer`` and ``multiplier``, for the prompts of one cell.

    python analysis/agreement.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Agreement.of(report)
view.save("agreement")
print(view.caption)
