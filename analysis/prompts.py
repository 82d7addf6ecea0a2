"""Prompt by prompt: P(A) with and without steering, and its log ratio with the ceiling that no prompt can pass.

The second figure is the same object with ``change=True``.

    python analysis/prompts.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
clp.PromptEffects.of(report).save("prompts")
view = clp.PromptEffects.of(report, change=True)
view.save("prompts_change")
print(view.caption)
