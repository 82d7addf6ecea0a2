"""Files, hub datasets and chat templates -> prompts and contrast pairs.

Reads JSON lists, JSON Lines, CSV and Parquet files, and hub datasets through ``datasets``, in the formats of the field:
model-written evals and CAA (``question``, ``answer_matching_behavior``, ``answer_not_matching_behavior``, with or
without a leading space), EasyEdit (``matching``, ``not_matching``), steering-bench (``positive`` and ``negative``, each
a ``prompt`` and a ``response``) and, for pairs, two plain texts (``positive``, ``negative``).
"""

from completions_lp.prompts.answers import answer_tokens, first_difference
from completions_lp.prompts.files import is_of_hub
from completions_lp.prompts.loading import load_pairs, load_prompts

__all__ = ["answer_tokens", "first_difference", "is_of_hub", "load_pairs", "load_prompts"]
