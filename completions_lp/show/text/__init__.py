"""Report -> text for terminal, ``report.md`` and LaTeX. ``width`` is a line's, by default as wide as the terminal."""

from completions_lp.show.text.blocks import format_quality_line
from completions_lp.show.text.comparison import format_comparison, tabulate_comparison
from completions_lp.show.text.headline import format_overview, format_table
from completions_lp.show.text.latex import format_latex
from completions_lp.show.text.plan import format_plan, format_validation
from completions_lp.show.text.report import format_checks, format_report
from completions_lp.show.text.sentence import format_sentence

__all__ = ["format_checks", "format_comparison", "format_latex", "format_overview", "format_plan", "format_report"]
__all__ += ["format_quality_line", "format_sentence", "format_table", "format_validation", "tabulate_comparison"]
