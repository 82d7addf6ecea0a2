"""The page around the blocks: its template, styles and scripts, and the parts that are plain HTML.

Text from models, prompts and file names enters through ``show_text`` alone; the policy in the page's head forbids every
request, every script and style but the page's own (by hash), and, as a second lock, any script that makes HTML of text.
"""

import base64
import hashlib
import html
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from completions_lp.show.page.packing import Packed
from completions_lp.show.page.reading import RunData

SCRIPTS = (
    "blocks",
    "words",
    "scales",
    "state",
    "heatmap",
    "lines",
    "numbers",
    "prompts",
    "tokens",
    "completions",
    "main",
)
"""The page's scripts in the order in which they are joined."""
_CHECKS = {
    "noise_floor": ("Noise floor", "largest change of a completion under multiplier 0, in nats"),
    "sampler_gap": ("Sampler gap", "largest difference between sampled and scored log probs, in nats"),
    "label_gap": (
        "Labels − tokens",
        "share of A by label less P(A) by tokens, mean over prompts; near 0 where all is well",
    ),
    "sampler_z": ("Sampler test", "surprisal minus entropy of the draws over its error; near 0 where all is well"),
    "all_completions_z": ("All completions", "largest t of their mean increase, which is at most 0 up to noise"),
    "not_finite": ("Not finite", "log probs of completions that are no finite number"),
    "share_red": ("Red", "share of prompts and conditions on which the change of P(answer) is not to be trusted"),
    "p_rank_sweep": ("Rank of the sweep", "p-value of the best cell among random directions at their best cells"),
}
_KEPT = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}\n"


@dataclass(frozen=True)
class Figure:
    """A drawn figure of the run, ready for the page."""

    name: str
    caption: str
    data: str
    """PNG in base64."""


def gather_figures(folder: Path, room: int) -> tuple[list[Figure], list[str]]:
    """The figures of a run that fit into ``room`` characters, and the names of those that do not."""
    found: list[Figure] = []
    missed: list[str] = []
    for path in sorted((folder / "figures").glob("*.png")):
        data = base64.b64encode(path.read_bytes()).decode("ascii")
        if len(data) > room:
            missed.append(path.name)
            continue
        room -= len(data)
        beside = [path.with_suffix(suffix) for suffix in (".txt", ".md")]
        caption = next((p.read_text(encoding="utf-8").strip() for p in beside if p.is_file()), "")
        found.append(Figure(path.stem, caption, data))
    return found, missed


def fill_template(
    data: RunData, figures: tuple[list[Figure], list[str]], packed: Packed | None, *, sentence: str
) -> str:
    """The page as text; without ``packed``, all of it but the blocks."""
    styles = _read_asset("page.css")
    scripts = _join_scripts()
    left_out = [*(packed.left_out if packed else ()), *(f"the figure {name}" for name in figures[1])]
    parts = {
        "policy": _make_policy(styles, scripts),
        "styles": styles,
        "scripts": scripts,
        "title": show_plain(name_run(data.info)),
        "heading": show_text(name_run(data.info)),
        "facts": _show_facts(data),
        "errors": _show_notice("error", "The instrument failed a check: do not believe these numbers", data.errors),
        "sentence": show_text(_use_minus(sentence or "This run has no headline: run the report stage.")),
        "warnings": _show_notice("warning", "Read this first", data.info.get("warnings") or [])
        + ("" if data.errors else '<p class="notice fine">No check failed.</p>'),
        "checks": _show_checks(data.info.get("checks") or {}),
        "figures": "".join(_show_figure(figure) for figure in figures[0]),
        "figures_hidden": "" if figures[0] else "hidden",
        "left_out": _show_left_out(left_out),
        "provenance": _show_provenance(data.info),
        "meta": _escape_json({**packed.meta, "columns": packed.blocks.columns}) if packed else "{}",
        "blocks": _show_blocks(packed.blocks.texts) if packed else "",
    }
    template = _read_asset("template.html")
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match.group(1)], template)


def name_run(info: Mapping[str, Any]) -> str:
    """What a run is called: its model and its prompts."""
    config = info.get("config", {})
    model, prompts = config.get("model", {}).get("name", "model"), config.get("prompts", {}).get("path", "prompts")
    return f"{Path(model).name}: {Path(prompts).stem}"


def show_plain(text: str) -> str:
    """Foreign text where only text can stand."""
    return html.escape("".join(c if _is_plain(c) else f"<{_name_sign(c)}>" for c in text))


def show_text(text: str) -> str:
    """Foreign text as HTML: its own direction, control characters visible."""
    signs = [html.escape(c) if _is_plain(c) else f'<span class="sign">{_name_sign(c)}</span>' for c in text]
    return f"<bdi>{''.join(signs)}</bdi>"


def _is_plain(sign: str) -> bool:
    """Whether a character may stand as it is: no control, format (bidi), line or paragraph separator."""
    return sign in _KEPT or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def _name_sign(sign: str) -> str:
    return f"U+{ord(sign):04X}"


def _read_asset(name: str) -> str:
    return (files("completions_lp.show.page") / "assets" / name).read_text(encoding="utf-8")


def _join_scripts() -> str:
    parts = [_read_asset(f"{name}.js").strip() for name in SCRIPTS]
    return '\n(() => {\n"use strict";\n' + "\n\n".join(parts) + "\n})();\n"


def _make_policy(styles: str, scripts: str) -> str:
    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")

    return (
        f"default-src 'none'; script-src 'sha256-{digest(scripts)}'; style-src 'sha256-{digest(styles)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _escape_json(value: Any) -> str:
    """JSON that can stand in a script element: no character of it can end the element or a line."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _show_blocks(texts: Mapping[str, str]) -> str:
    return "\n".join(f'<script type="text/plain" id="block-{name}">{text}</script>' for name, text in texts.items())


def _show_facts(data: RunData) -> str:
    config, model = data.info.get("config", {}), data.info.get("model") or {}
    sampling, target = config.get("sampling", {}), config.get("label", {}).get("target", "A")
    draws = 1 if sampling.get("greedy") else sampling.get("n", "?")
    facts = {
        "Prompts": f"{len(data.said.prompts):,}",
        "Draws per prompt": str(draws),
        "Distinct completions": f"{len(data.said.text):,}",
        "Conditions": f"{len(data.conditions):,}",
        "Layers of the model": str(model.get("n_layers", "?")),
        "Target answer": "behaviour-matching" if target == "matching" else str(target),
    }
    return "".join(f"<div><dt>{name}</dt><dd>{show_text(value)}</dd></div>" for name, value in facts.items())


def _show_notice(kind: str, heading: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    items = "".join(f"<li>{show_text(_use_minus(entry))}</li>" for entry in entries)
    return f'<div class="notice {kind}"><h3>{heading}</h3><ul>{items}</ul></div>'


def _use_minus(text: str) -> str:
    """Prose with real minus signs before its numbers."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)


def _show_checks(checks: Mapping[str, Any]) -> str:
    shown = ""
    for name, value in checks.items():
        label, meaning = _CHECKS.get(name, (name.replace("_", " ").capitalize(), ""))
        text = _write_number(value) if isinstance(value, int | float) else "not measured"
        shown += f"<div><dt>{show_text(label)}</dt><dd>{text}</dd><dd class='why'>{html.escape(meaning)}</dd></div>"
    return shown


def _write_number(value: float) -> str:
    """A check's number: two digits, a real minus sign, small and large ones with a power of ten."""
    digits, _, power = f"{value:.2g}".partition("e")
    raised = f"\N{MIDDLE DOT}10<sup>{int(power)}</sup>" if power else ""
    return f"{digits}{raised}".replace("-", "\N{MINUS SIGN}")


def _show_figure(figure: Figure) -> str:
    name = show_plain(figure.name.replace("_", " "))
    caption = figure.caption or figure.name.replace("_", " ").capitalize()
    return (
        f'<figure><img alt="{name}" loading="lazy" decoding="async" src="data:image/png;base64,{figure.data}">'
        f"<figcaption>{show_text(caption)}</figcaption></figure>"
    )


def _show_left_out(left_out: list[str]) -> str:
    if not left_out:
        return ""
    items = "".join(f"<li>{show_text(entry)}</li>" for entry in left_out)
    return (
        '<div class="notice" id="left-out"><h3>Left out, so that the file stays within its size</h3>'
        f"<ul>{items}</ul><p>The numbers above the explorer are always those of the whole run.</p></div>"
    )


def _show_provenance(info: Mapping[str, Any]) -> str:
    """What was run, as stored in ``run.json``."""
    rows = {**_flatten("model", info.get("model") or {}), **_flatten("", info.get("config") or {})}
    rows |= _flatten("versions", info.get("versions") or {})
    cells = (f"<tr><th scope='row'>{show_text(k)}</th><td>{show_text(v)}</td></tr>" for k, v in rows.items())
    return "".join(cells)


def _flatten(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping):
            flat |= _flatten(name, value)
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat
