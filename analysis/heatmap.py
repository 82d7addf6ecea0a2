"""The whole sweep as a map, layer by multiplier.

Dots are significant after the whole sweep is allowed for, hatched cells are not to be trusted, and the outlined one was
chosen on half of the prompts.

    python analysis/heatmap.py RUN_DIR [RUN_DIR ...] [--quantity delta_p_A] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("heatmap", __doc__, "quantity")
