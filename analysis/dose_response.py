"""Dose and response at one layer: the log ratio of P(A) and its bound from the A completions, over the multipliers.

The shaded gap between the two is the divergence of the steered from the unsteered texts among those with the answer.

    python analysis/dose_response.py RUN_DIR [RUN_DIR ...] [--layer 2] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("dose_response", __doc__, "layer")
