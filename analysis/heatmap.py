"""The whole sweep as a map, layer by multiplier.

Dots are significant after the whole sweep is allowed for, hatched cells are not to be trusted, and the outlined one was
chosen on half of the prompts. Any other number of the report can be drawn: ``quantity="log_ratio_A"``.

    python analysis/heatmap.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Heatmap.of(report)
view.save("heatmap")
print(view.caption)
