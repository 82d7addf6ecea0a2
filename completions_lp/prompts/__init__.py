"""Files, hub datasets and chat templates -> prompts and contrast pairs.

Reads JSON lists, JSON Lines, CSV, TSV and Parquet files, hub datasets through ``datasets``, and rows, in the formats of
the field (``formats``), and refuses what it cannot read with the fields that it found.
"""

from completions_lp.prompts.answers import answer_tokens, first_difference
from completions_lp.prompts.files import is_of_hub
from completions_lp.prompts.loading import check_asking, load_pairs, load_prompts

__all__ = ["answer_tokens", "check_asking", "first_difference", "is_of_hub", "load_pairs", "load_prompts"]
