"""Dose and response at one layer: the log ratio of P(A), the average log-prob increase below it, and the gap between.

By default at the layer of the report's best cell; another one is an argument of ``of``.

    python analysis/dose_response.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.DoseResponse.of(report)
view.save("dose_response")
print(view.caption)
