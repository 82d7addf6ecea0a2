"""Promote and suppress: what steering does to the completions with the answer and to the others.

A point per prompt; a vector that only damages lowers both.

    python analysis/promotion.py RUN_DIR [RUN_DIR ...] [--layer 2 --multiplier 1] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("promotion", __doc__, "layer", "multiplier")
