"""Each prompt's logit diff against the multiplier, and the mean slope by layer: on which prompts does it steer?

python analysis/steerability.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Steerability.of(report)
view.save("steerability")
print(view.caption)
