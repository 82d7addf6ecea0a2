"""Steering and its rivals, other prompts or other models, on the very same completions.

python analysis/rivals.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Rivals.of(report)
view.save("rivals")
print(view.caption)
