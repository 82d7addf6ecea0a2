"""The layer sweep: how much more often the answer is given, by the layer at which the vector is added.

A panel per multiplier, with the interval over prompts, the simultaneous band over the whole sweep, and the band that
random directions of the same norm stay in.

    python analysis/layer_sweep.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.LayerSweep.of(report)
view.save("layer_sweep")
print(view.caption)
