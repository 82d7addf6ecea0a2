"""Prompt by prompt: P(A) steered against unsteered.

With --change it is the log ratio against P(A), under the ceiling that no prompt can pass.

    python analysis/prompts.py RUN_DIR [RUN_DIR ...] [--change] [--layer 2 --multiplier 1] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("prompts", __doc__, "layer", "multiplier", "change")
