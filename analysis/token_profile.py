"""Where the gain is: token by token around the answer, and split into before, at and after it.

python analysis/token_profile.py RUN_DIR
"""

import sys

import completions_lp as clp

report = clp.load(sys.argv[1])
view = clp.TokenProfile.of(report)
view.save("token_profile")
print(view.caption)
