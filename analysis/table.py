"""The main numbers as a LaTeX table (booktabs), a line per layer and multiplier, with intervals.

python analysis/table.py RUN_DIR
"""

import sys
from pathlib import Path

import completions_lp as clp

report = clp.load(sys.argv[1])
Path("table.tex").write_text(clp.format_latex(report), encoding="utf-8")
