"""Whole distributions of the log-prob increase: completions with the answer against the others.

A panel per multiplier; every prompt has the same weight.

    python analysis/distributions.py RUN_DIR [RUN_DIR ...] [--layer 2] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("distributions", __doc__, "layer")
