"""Efficacy against damage: the change of P(A) against KL(unsteered || steered) per token.

The stepped line is the Pareto front: cells that no other beats on both axes.

    python analysis/damage.py RUN_DIR [RUN_DIR ...] [--quantity delta_p_A] [--out DIR]
"""

from drawing import draw

if __name__ == "__main__":
    draw("damage", __doc__, "quantity")
