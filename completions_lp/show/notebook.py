"""Report, Completions and Scores -> HTML in Jupyter, escaped; the package's import there calls ``register``."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from completions_lp.records import Completions, Report, Scores, TokenIncreases
from completions_lp.show.escape import escape_html
from completions_lp.show.text import format_sentence, format_table
from completions_lp.show.text.numbers import DASH
from completions_lp.show.text.seeds import say_seeds
from completions_lp.show.text.tables import WIDTH
from completions_lp.show.text.words import say_scored

PROMPTS = 3
TEXTS = 8
"""How many prompts, and how many completions of each, are shown."""
LIMIT = 2.0
"""Nats at which a colour is full."""
LOW, HIGH = (33, 102, 172), (178, 88, 6)
"""Blue for less likely, orange for likelier, as on the page: told apart by every kind of colour vision."""
_ROW = "padding:2px 10px 2px 0;text-align:right;font-variant-numeric:tabular-nums;vertical-align:top;white-space:nowrap"


def register() -> bool:
    """Let IPython show the records by the functions below; False where no notebook or shell of its is running."""
    try:
        from IPython.core.getipython import get_ipython
    except ImportError:
        return False
    display = getattr(get_ipython(), "display_formatter", None)
    if display is None:
        return False
    formatter = display.formatters["text/html"]
    for kind, show in ((Report, show_report), (Completions, show_completions), (Scores, show_scores)):
        formatter.for_type(kind, show)
    return True


def show_report(report: Report) -> str:
    """Errors and warnings, the sentence, and the table."""
    notes = [f"<p><b>ERROR</b> {escape_html(text)}</p>" for text in report.errors]
    notes += [f"<p>⚠ {escape_html(text)}</p>" for text in report.warnings]
    table = f"<pre style='line-height:1.35;overflow-x:auto'>{escape_html(format_table(report, width=WIDTH))}</pre>"
    said = (format_sentence(report), say_seeds(report), say_scored(report))
    told = [f"<p>{escape_html(text)}</p>" for text in said if text]
    return "".join([*notes, *told, table])


def show_completions(completions: Completions) -> str:
    """The most frequent completions of the first prompts, each token coloured by its log prob."""
    words = "colour: log prob of the token under the model that said it"
    return _show(completions, completions.logprob, completions.logprob, words, diverging=False)


def show_scores(scores: Scores) -> str:
    """The same, tokens coloured by their increase under one of the conditions that are kept."""
    return show_tokens(scores.increases.completions, scores.tokens)


def show_tokens(completions: Completions, tokens: TokenIncreases | None) -> str:
    """Completions, tokens coloured by their increase under the condition that moves answers most."""
    if tokens is None or not tokens.conditions:
        return show_completions(completions)
    answer, rows = completions.answer_index, np.flatnonzero(completions.answer_index >= 0)
    moved = np.abs(tokens.increase[:, rows, answer[rows]]) @ completions.counts[rows]
    chosen = int((moved if len(rows) else np.nansum(np.abs(tokens.increase), axis=(1, 2))).argmax())
    c = tokens.conditions[chosen]
    words = f"colour: log-prob increase under {c.vector}, layer {c.layer}, multiplier {c.multiplier:+g}"
    return _show(completions, completions.logprob, tokens.increase[chosen], words, diverging=True)


def _show(
    completions: Completions,
    baseline: Float[np.ndarray, "completion token"],
    values: Float[np.ndarray, "completion token"],
    words: str,
    *,
    diverging: bool,
) -> str:
    total = len(completions.prompts)
    parts = [
        f"<p>{len(completions)} distinct completions of {total} prompts; {escape_html(words)}. The answer's token is "
    ]
    parts.append("outlined.</p>")
    for i in range(min(PROMPTS, total)):
        prompt, rows = completions.prompts[i], completions.rows_of(i)
        order = rows[np.argsort(-completions.counts[rows], kind="stable")][:TEXTS]
        parts.append(f"<p><b>{escape_html(prompt.id)}</b> <bdi>{escape_html(_shorten(prompt.text))}</bdi></p><table>")
        parts.append(f"<tr><th style='{_ROW}'>draws</th><th style='{_ROW}'>label</th><th style='{_ROW}'>log prob</th>")
        parts.append(f"<th style='{_ROW}'>sum</th><th style='text-align:left'>completion</th></tr>")
        for row in order:
            parts += _show_row(completions, int(row), baseline[row], values[row], diverging)
        more = len(rows) - len(order)
        parts.append("</table>" + (f"<p>and {more} more</p>" if more else ""))
    return "".join(parts)


def _show_row(
    completions: Completions,
    row: int,
    baseline: Float[np.ndarray, " token"],
    values: Float[np.ndarray, " token"],
    diverging: bool,
) -> Iterator[str]:
    n = int(completions.lengths[row])
    total = _write(float(np.sum(values[:n])), 2) if diverging else ""
    cells = [completions.counts[row], completions.label[row] or "no answer", f"{np.sum(baseline[:n]):.2f}", total]
    yield "<tr>" + "".join(f"<td style='{_ROW}'>{escape_html(str(cell))}</td>" for cell in cells)
    yield "<td style='text-align:left'><bdi dir='auto'>"
    for token, piece in enumerate(completions.pieces[row][:n]):
        box = ";outline:1.5px solid" if token == completions.answer_index[row] else ""
        title = f"{_write(float(values[token]), 3)} nats"
        style = f"background:{_colour(float(values[token]), diverging)}{box}"
        yield f"<span title='{title}' style='{style}'>{escape_html(piece)}</span>"
    yield "</bdi></td></tr>"


def _write(value: float, decimals: int) -> str:
    """A number with its sign; a dash where there is none, as past what is scored."""
    return f"{value:+.{decimals}f}" if np.isfinite(value) else DASH


def _colour(value: float, diverging: bool) -> str:
    if not np.isfinite(value):
        return "none"
    red, green, blue = HIGH if value > 0 else LOW
    strength = min(1.0, abs(value) / (LIMIT if diverging else 2 * LIMIT)) * 0.55
    return f"rgba({red},{green},{blue},{strength:.2f})"


def _shorten(text: str, width: int = 160) -> str:
    return text if len(text) <= width else text[: width // 2] + " … " + text[-width // 2 :]
