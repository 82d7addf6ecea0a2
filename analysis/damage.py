"""Efficacy against damage: the change of P(A) against KL(unsteered || steered) per token.

The stepped line is the Pareto front: cells that no other beats on both axes. They are printed, from the tidy rows.

    python analysis/damage.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.Damage.of(report)
view.save("damage")
for row in view.rows:
    if row["on_front"]:
        print(f"layer {row['layer']}, {row['multiplier']:+g}: {row['value']:+.1f} {row['unit']}")
