"""A report -> its page: the template around the blocks, with what is plain HTML, the styles and the scripts.

Text from models, prompts and file names enters through ``escape_html``, which makes visible what would not be seen;
whatever else stands in the template is escaped by it. The policy in the page's head forbids every request, every script
and style but the page's own (by hash), and, as a second lock, any script that makes HTML of text.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from completions_lp.records import InputError, Report, TokenIncreases
from completions_lp.show.escape import escape_html
from completions_lp.show.page.bundle import bundle_modules
from completions_lp.show.page.packing import Packed, pack_report
from completions_lp.show.subject import name_behaviour, name_model
from completions_lp.show.text import format_sentence
from completions_lp.show.text.blocks import SWAPS, SWAPS_WORDS, list_swaps
from completions_lp.show.text.off_target import OFF_TARGET, OFF_TARGET_WORDS, list_off_target, say_off_target
from completions_lp.show.text.rivals import RIVALS, RIVALS_WORDS, list_rivals, say_cell, say_rivals
from completions_lp.show.text.seeds import say_seeds
from completions_lp.show.text.vectors import VECTORS, VECTORS_WORDS, list_vectors, say_vectors
from completions_lp.show.text.words import say_scored

LIMIT = 40_000_000
"""Bytes that a page takes at most, by default."""
_STYLES = ("page", "sweep", "numbers", "explorer", "screens")
"""In their order: what is later overrides."""
_CHECKS = {
    "noise_floor": ("Noise floor", "largest change of a completion under multiplier 0, in nats"),
    "rounding_sd": ("Rounding", "what it does to an increase, as a standard deviation over completions, in nats"),
    "rounding_mean": ("Rounding, mean", "what it does to an increase on average, in nats; near 0 where all is well"),
    "rounding_se": ("Rounding, error", "standard error of that mean, in nats"),
    "sampler_gap": ("Sampler gap", "largest difference between sampled and scored log probs, in nats"),
    "sampler_gap_rms": ("Sampler gap, typical", "root mean square of these differences, in nats"),
    "label_gap": (
        "Labels − tokens",
        "share of A by label less P(A) by tokens, mean over prompts; near 0 where all is well",
    ),
    "sampler_z": ("Sampler test", "surprisal minus entropy of the draws over its error; near 0 where all is well"),
    "all_completions_z": ("All completions", "largest t of their mean increase, which is at most 0 up to noise"),
    "not_finite": ("Not finite", "log probs of completions that are no finite number"),
    "bos_wrong": ("BOS", "prompts that do not begin with exactly one, or with none where the tokenizer has none"),
    "vector_off": ("Vector", "how far what is added at its layer is off from multiplier × vector, as a share of it"),
    "below_layer": (
        "Below the layer",
        "change of the residual stream there, as a share of its norm",
    ),
    "before_position": ("Before the position", "the same at tokens before the first that is steered"),
    "mass_off": ("Mass", "how far the log of the sum of all tokens' probabilities is from 0, in nats"),
    "share_red": (
        "Red, whole sweep",
        "of all prompts in all cells of the target vector: share on which the change of P(answer) is not to be trusted",
    ),
    "largest_kl": (
        "Largest KL",
        "nats per token in the cell of the vector that costs most; under 0.05, no effect is not told from no dose",
    ),
    "p_rank_sweep": ("Rank of the sweep", "p-value of the best cell among random directions at their best cells"),
}


@dataclass(frozen=True)
class Figure:
    """A drawn figure of the run, ready for the page."""

    name: str
    caption: str
    png: bytes

    @property
    def data(self) -> str:
        """The picture in base64."""
        return base64.b64encode(self.png).decode("ascii")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as the head of a PNG tells; zeros where there is none."""
        return int.from_bytes(self.png[16:20], "big"), int.from_bytes(self.png[20:24], "big")

    @property
    def wide(self) -> bool:
        """Whether it is of panels side by side: it takes the page's whole width, and scrolls where that is little."""
        width, height = self.size
        return width > 1.6 * height


def make_page(
    report: Report,
    info: Mapping[str, Any],
    *,
    figures: Sequence[Figure] = (),
    tokens: TokenIncreases | None = None,
    limit: int = LIMIT,
) -> str:
    """The page of a report, one file that opens from disk and reaches for nothing outside itself.

    ``info`` is what ``run.json`` holds; tokens are coloured under the conditions of ``tokens``. The page takes at most
    ``limit`` bytes in UTF-8: figures, in their order, up to a quarter of that. What else does not fit is left out as
    ``pack_report`` says, and the page says so.

    Raises:
        InputError: The limit holds no run, or the report has no completions.
    """
    if limit < 1_000_000:
        raise InputError(f"a page of at most {limit} bytes holds no run; give it at least 1000000")
    shown, missed = _choose_figures(figures, limit // 4)
    values = {"report": report, "info": info, "figures": shown, "missed": missed}
    frame = _fill_template(None, values)
    room, seed = limit - len(frame.encode()) - 10_000, int(info.get("seed") or 0)
    packed = pack_report(report, tokens, room=room, seed=seed)
    return _fill_template(packed, values)


def name_run(info: Mapping[str, Any]) -> str:
    """What a run is called: its model and its prompts."""
    return f"{name_model(info) or 'model'}: {name_behaviour(info) or 'prompts'}"


def _choose_figures(figures: Sequence[Figure], room: int) -> tuple[list[Figure], list[str]]:
    """The figures that fit into ``room`` characters, and the names of those that do not."""
    shown: list[Figure] = []
    for figure in figures:
        if len(figure.data) <= room - sum(len(other.data) for other in shown):
            shown.append(figure)
    return shown, [figure.name for figure in figures if figure not in shown]


def _fill_template(packed: Packed | None, values: Mapping[str, Any]) -> str:
    """The page as text; without ``packed``, all of it but the blocks."""
    report, info = values["report"], values["info"]
    styles, scripts = read_styles(), bundle_modules(read_scripts(), "main")
    tables = [table for table in _list_tables(report) if table["columns"]]
    return _read_template().render(
        values,
        policy=_make_policy(styles, scripts),
        styles=styles,
        scripts=scripts,
        name=name_run(info),
        about=_list_about(report, info),
        contents=_list_contents(tables, bool(values["figures"])),
        facts=_list_facts(report, info),
        sentence=format_sentence(report),
        between=say_seeds(report),
        scored=say_scored(report),
        told=[*say_vectors(report), *say_rivals(report), *say_off_target(report)],
        tables=tables,
        checks=_list_checks(report.checks),
        left_out=[
            *(packed.left_out if packed else ()),
            *(f"the figure {name.replace('_', ' ')}" for name in values["missed"]),
        ],
        provenance={name: _flatten(info.get(name) or {}) for name in ("model", "config", "versions")},
        meta=_escape_json(packed.meta if packed else {}),
        blocks=packed.blocks.texts if packed else {},
    )


def _list_tables(report: Report) -> list[dict[str, Any]]:
    """The tables that only some reports have."""
    told = " ".join(filter(None, [RIVALS_WORDS, say_cell(report)]))
    return [
        {"name": name, "heading": heading, "words": words.replace("*", ""), "columns": columns, "others": others}
        for name, heading, words, columns, others in (
            ("rivals", RIVALS, told, list_rivals(report), "all other cells"),
            ("vectors", VECTORS, VECTORS_WORDS, list_vectors(report), "all pairs of vectors"),
            ("off_target", OFF_TARGET, OFF_TARGET_WORDS, list_off_target(report), "further quantities"),
            ("swaps", SWAPS, SWAPS_WORDS, list_swaps(report), "the controls"),
        )
    ]


@cache
def _read_template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"plain": _show_plain, "show": _show_text}
    return environment.from_string(_read_asset("template.html"))


def _show_plain(text: str) -> Markup:
    """Foreign text where only text can stand."""
    return Markup(escape_html(text))  # noqa: S704  the one place where foreign text becomes HTML


def _show_text(text: str) -> Markup:
    """Foreign text, in its own direction."""
    return Markup("<bdi>{}</bdi>").format(_show_plain(_use_minus(text)))


def _use_minus(text: str) -> str:
    """Prose with real minus signs before its numbers."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)


def _read_asset(name: str) -> str:
    return (files("completions_lp.show.page") / "assets" / name).read_text(encoding="utf-8")


def read_scripts() -> dict[str, str]:
    """The page's scripts by name, without ``.js``."""
    folder = files("completions_lp.show.page") / "assets"
    names = sorted(path.name for path in folder.iterdir() if path.name.endswith(".js"))
    return {name.removesuffix(".js"): _read_asset(name) for name in names}


def read_styles() -> str:
    """The page's styles."""
    return "".join(_read_asset(f"{name}.css") for name in _STYLES)


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


def _list_about(report: Report, info: Mapping[str, Any]) -> dict[str, str]:
    """What was steered, with what, on what."""
    conditions = () if report.increases is None else report.increases.conditions
    vectors = list(dict.fromkeys(condition.vector for condition in conditions if condition.kind == "target"))
    named = {"Model": name_model(info), "Vectors" if len(vectors) > 1 else "Vector": ", ".join(vectors)}
    return {name: value for name, value in (named | {"Behaviour": name_behaviour(info)}).items() if value}


def _list_contents(tables: Sequence[Mapping[str, Any]], figures: bool) -> list[tuple[str, str]]:
    """The sections of the page, as the table of contents has them: their ids and what they are called."""
    return [
        *(("headline", "The result"), ("sweep", "The sweep"), ("numbers", "The numbers")),
        *((str(table["name"]), str(table["heading"])) for table in tables),
        *([("figures", "Figures")] if figures else []),
        *(("explorer", "Completions"), ("provenance", "How this was made")),
    ]


def _list_facts(report: Report, info: Mapping[str, Any]) -> dict[str, str]:
    facts = {}
    if report.increases is not None:
        completions, conditions = report.increases.completions, report.increases.conditions
        drawn, seeds = completions.sampling, completions.sampling.seeds
        facts = {
            "Prompts": f"{len(completions.prompts):,}",
            **({"Draws per prompt": str(drawn.draws)} if len(completions) else {}),
        }
        facts |= {"Seeds": ", ".join(map(str, seeds))} if len(seeds) > 1 else {}
        facts |= {"Distinct completions": f"{len(completions):,}", "Conditions": f"{len(conditions):,}"}
    layers = str((info.get("model") or {}).get("n_layers", "?"))
    target = "each prompt's matching one" if report.target == "matching" else report.target
    stored = str((info.get("model") or {}).get("quantization") or "")
    facts |= {"Weights stored as": stored} if stored else {}
    return facts | {"Layers of the model": layers, "Target answer": target}


def _list_checks(checks: Mapping[str, float]) -> list[tuple[str, Markup, str]]:
    """Label, number and meaning of each check."""
    words = {name: _CHECKS.get(name, (name.replace("_", " ").capitalize(), "")) for name in checks}
    return [(words[name][0], _write_number(name, value), words[name][1]) for name, value in checks.items()]


def _write_number(name: str, value: float) -> Markup:
    """A check's number, a share in percent: two digits, a real minus sign, small and large ones with a power of ten."""
    if value != value:
        return Markup("not measured")
    if name.startswith("share_"):
        return Markup("{:.0f} %").format(100 * value)
    digits, _, power = f"{value:.2g}".partition("e")
    raised = Markup("\N{MIDDLE DOT}10<sup>{}</sup>").format(_use_minus(str(int(power)))) if power else ""
    return Markup("{}{}").format(_use_minus(digits), raised)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """What was run, as stored in ``run.json``, a line for each value."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{name}.")
        else:
            flat[name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat
