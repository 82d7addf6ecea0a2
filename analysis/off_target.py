"""Effect against collateral damage: the vector's own prompts, and prompts that it is not about.

python analysis/off_target.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.OffTarget.of(report)
view.save("off_target")
print(view.caption)
