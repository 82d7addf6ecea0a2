"""Report -> text: the table and the sentence for the terminal, and ``report.md``."""

from completions_lp.show.text.blocks import format_quality, format_quality_line, format_table, list_conditions
from completions_lp.show.text.comparison import format_comparison, tabulate_comparison
from completions_lp.show.text.latex import format_latex
from completions_lp.show.text.plan import format_plan, format_validation
from completions_lp.show.text.report import format_checks, format_report
from completions_lp.show.text.sentence import format_sentence
from completions_lp.show.text.text import format_estimate

__all__ = [
    "format_checks",
    "format_comparison",
    "format_estimate",
    "format_latex",
    "format_plan",
    "format_quality",
    "format_quality_line",
    "format_report",
    "format_sentence",
    "format_table",
    "format_validation",
    "list_conditions",
    "tabulate_comparison",
]
