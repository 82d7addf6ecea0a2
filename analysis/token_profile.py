"""Where the gain is: token by token around the answer, and in parts.

The parts are before, at and after the answer, and the answer itself against the reasoning that leads to it.

    python analysis/token_profile.py RUN_DIR [RUN_DIR ...] [--layer 2 --multiplier 1] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("token_profile", __doc__, "layer", "multiplier")
