"""Several figures on a page of your own: each draws on the axes it is given.

python analysis/own_page.py RUN_DIR
"""

import sys

from matplotlib.figure import Figure

import completions_lp as clp

report = clp.load(sys.argv[1])
page = Figure(figsize=(7, 3), layout="constrained")
left, right = page.subplots(1, 2)
clp.LayerSweep.of(report).draw(left)
clp.Promotion.of(report).draw(right)
page.savefig("own_page.pdf")
