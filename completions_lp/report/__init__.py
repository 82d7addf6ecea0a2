"""Increases, choices and measures -> Report: per-prompt numbers, means over prompts, tests, checks. numpy and scipy.

Quantities are named as in the run directory's tables; ``A`` stands for the target answer, whatever its letter. Means
over the completions of a prompt are weighted by count, since equal draws are legitimate draws. Means over prompts are
means of per-prompt means (``macro``), unless said: ``micro`` pools completions, ``marginal`` is the change of a mean
over prompts. A prompt on which a quantity is undefined is NaN there, left out of its mean and counted in ``n_dropped``.
"""

from completions_lp.report.prompts import count_answers, measure_prompts
from completions_lp.report.summary import summarize

__all__ = ["count_answers", "measure_prompts", "summarize"]
