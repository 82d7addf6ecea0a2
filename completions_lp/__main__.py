"""``python -m completions_lp`` is ``completions-lp``."""

import sys

from completions_lp.cli import main

sys.exit(main())
