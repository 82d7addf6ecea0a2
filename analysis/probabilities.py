"""The answer's probability against the multiplier, a line per layer, as contrastive activation addition reports it.

Unlike there, the probability is of the answer among all that the model may say, not among two letters.

    python analysis/probabilities.py RUN_DIR [RUN_DIR ...] [--quantity p_A_steered] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("probabilities", __doc__, "quantity")
