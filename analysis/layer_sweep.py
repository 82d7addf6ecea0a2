"""The layer sweep: how much more often the answer is given, by the layer at which the vector is added.

A panel per multiplier, with the interval over prompts, the simultaneous band over the whole sweep, and the band that
random directions of the same norm stay in.

    python analysis/layer_sweep.py RUN_DIR [RUN_DIR ...] [--quantity delta_p_A] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("layer_sweep", __doc__, "quantity")
