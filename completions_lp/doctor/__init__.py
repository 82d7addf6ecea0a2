"""Self-checks on the user's own model, vector and prompts, against full passes with plain torch hooks.

``examination`` makes them all; ``tokens``, ``stream`` and ``scores`` have them by what they look at; ``truth`` is the
plain way that others are compared with.
"""

from completions_lp.doctor.examination import check_quickly, examine_model
from completions_lp.doctor.findings import Diagnosis, Finding
from completions_lp.doctor.table import format_diagnosis

__all__ = ["Diagnosis", "Finding", "check_quickly", "examine_model", "format_diagnosis"]
