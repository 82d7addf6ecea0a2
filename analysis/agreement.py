"""The sampled metric against the two-choice logit diff, in every cell of layer and multiplier.

With --layer and --multiplier, for the prompts of one cell.

    python analysis/agreement.py RUN_DIR [RUN_DIR ...] [--layer 2 --multiplier 1] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("agreement", __doc__, "quantity", "layer", "multiplier")
