"""How well is the vector known at each layer, does it tell its pairs apart, and is that where it steers?

python analysis/quality.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Quality.of(report)
view.save("quality")
print(view.caption)
