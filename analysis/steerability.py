"""Propensity curves of single prompts, and their mean slope by layer.

Beside each slope stands the share of prompts steered the wrong way, the noise of single slopes shrunken away.

    python analysis/steerability.py RUN_DIR [RUN_DIR ...] [--layer 2] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("steerability", __doc__, "layer")
