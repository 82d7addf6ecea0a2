"""Can the numbers be believed? The estimator against steered draws, effective draws, weights, trust, sampler, null.

Panel (a) needs the table that validation.py makes with the model; without it, it stays empty.

    python analysis/diagnostics.py RUN_DIR [RUN_DIR ...] [--layer 2] [--validation VALIDATION.csv] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("diagnostics", __doc__, "layer", "validation")
