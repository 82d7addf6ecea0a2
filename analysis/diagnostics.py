"""Can the numbers be believed? The estimator against steered draws, effective draws, weights, trust, sampler, null.

Panel (a) needs draws of the steered model, which `completions-lp plan RUN_DIR --validate` makes; else it stays empty.

    python analysis/diagnostics.py RUN_DIR [RUN_DIR ...] [--layer 2] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("diagnostics", __doc__, "layer")
