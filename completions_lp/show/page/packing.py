"""Report -> the blocks of a page, what their numbers mean, and what must be left out for them to fit."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from completions_lp.quantities import (
    HEADLINE,
    PRIMARY,
    TRUST,
    UNITS,
    Quantity,
    find_quantity,
    list_missing,
    rank_quantity,
)
from completions_lp.records import Completions, Condition, Increases, InputError, Prompt, Report, TokenIncreases
from completions_lp.report.doses import name_doses
from completions_lp.show.page.blocks import Blocks, quantise

DECIMALS = 3
"""What is kept of log probs and their increases: thousandths of a nat, as they are shown."""
TOKEN_CELLS = 8_000_000
"""Increases of single tokens that a page carries at most."""
_PARTS = ("increase", "increase_to_answer", "before_answer")
_CARDS = (PRIMARY, "log_ratio_A", HEADLINE, "increase_all", "kl_per_token", "logit_diff_change")
_PER_PROMPT = (
    *("p_A_steered", "p_A_steered_low", "p_A_steered_high", PRIMARY, "log_ratio_A", HEADLINE),
    *("increase_to_answer_A_rb", "increase_A", "increase_not_A", "increase_all", "kl", "logit_diff_change"),
    *("mass_steered", "ess"),
)
"""What is shown per prompt and condition."""
_UNSTEERED = ("n", "n_unique", "n_A", "share_A", "mass", "p_A", "p_A_low", "p_A_high")
"""What is shown per prompt of the unsteered model."""
_ESTIMATE = ("value", "low", "high", "level", "unit", "method", "n_clusters", "se", "df")
_GROUP = 40
"""Prompts whose completions lie in one block."""


@dataclass(frozen=True, eq=False)
class Packed:
    """The blocks of a page, what their numbers mean, and what was left out, in sentences."""

    blocks: Blocks
    meta: dict[str, Any]
    left_out: tuple[str, ...]


def pack_report(report: Report, tokens: TokenIncreases | None, *, room: int, seed: int = 0) -> Packed:
    """Pack as much of a report as ``room`` characters hold.

    What does not fit is left out in this order: token colours under controls; the completions under controls; prompts,
    of which a random subset (by ``seed``) stays. The summary is always whole.

    Raises:
        InputError: The report does not hold the completions that it is about.
    """
    if report.increases is None:
        raise InputError("this report has no completions, which a page is about; make it by summarize or load it")
    tokens = None if tokens is None else choose_coloured(report, tokens)
    every = np.arange(len(report.increases.completions.prompts))
    packed = _pack(report, report.increases, tokens, every)
    left_out = []
    control = [i for i, condition in enumerate(report.increases.conditions) if condition.kind != "target"]
    for prefix, what in (("tokens", "token colours"), ("parts", "completions' increases")):
        names = [f"{prefix}:{i}" for i in control if f"{prefix}:{i}" in packed.blocks.texts]
        dropped = 0
        while packed.blocks.size > room and dropped < len(names):
            dropped += 1
            del packed.blocks.texts[names[-dropped]]
        if dropped:
            left_out.append(f"the {what} under {dropped} of the {len(names)} conditions of control vectors")
    here, kept = set(packed.blocks.texts), len(every)
    while packed.blocks.size > room and kept > 1:
        kept = max(1, int(0.95 * kept * min(room / packed.blocks.size, 1.0)))
        chosen = np.sort(np.random.default_rng(seed).permutation(len(every))[:kept])
        packed = _pack(report, report.increases, tokens, chosen, here)
    if kept < len(every):
        left_out.append(f"{len(every) - kept} of {len(every)} prompts: {kept} drawn at random (seed {seed}) are here")
    return Packed(packed.blocks, packed.meta, tuple(left_out))


def choose_coloured(report: Report, tokens: TokenIncreases) -> TokenIncreases:
    """The conditions whose tokens are shown where not all can be: target vectors first, at the most moved layer."""
    effect: dict[tuple[str, int], float] = {}
    for row in report.table(HEADLINE, kind=None):
        key, value = (row.condition.vector, row.condition.layer), abs(row.estimate.value)
        effect[key] = max(effect.get(key, 0.0), 0.0 if math.isnan(value) else value)
    n_tokens = int(np.isfinite(tokens.increase[0]).sum()) if len(tokens.conditions) else 0
    limit = max(TOKEN_CELLS // max(n_tokens, 1), 1)

    def rank(i: int) -> tuple[bool, float, int]:
        c = tokens.conditions[i]
        return c.kind != "target", -effect.get((c.vector, c.layer), 0.0), c.layer

    chosen = sorted(sorted(range(len(tokens.conditions)), key=rank)[:limit])
    return TokenIncreases(tuple(tokens.conditions[i] for i in chosen), tokens.increase[chosen])


def _pack(
    report: Report,
    increases: Increases,
    tokens: TokenIncreases | None,
    chosen: Int[np.ndarray, " chosen"],
    only: set[str] | None = None,
) -> Packed:
    """The blocks of some prompts; of increases only those that are named."""
    blocks, completions, n = Blocks(), increases.completions, len(increases.completions.prompts)
    rows = [completions.rows_of(int(i)) for i in chosen]
    flat = np.concatenate([*rows, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    columns = {name: np.asarray(values).reshape(-1, n)[:, chosen] for name, values in report.prompts.items()}
    missing = list_missing(increases.through)
    per_prompt = [name for name in _PER_PROMPT if name in columns and name not in missing]
    unsteered = [name for name in _UNSTEERED if name in columns]
    blocks.add("summary", _list_summary(report, increases.conditions))
    fixed = {name: quantise(columns[name][0], find_quantity(name).decimals) for name in unsteered}
    blocks.add("prompts", {**_list_prompts([completions.prompts[i] for i in chosen], completions, rows), **fixed})
    for group, start in enumerate(range(0, len(chosen), _GROUP)):
        blocks.add(f"texts:{group}", _list_texts(completions, np.concatenate(rows[start : start + _GROUP])))
    for i in range(len(increases.conditions)):
        values = {name: quantise(columns[name][i], find_quantity(name).decimals) for name in per_prompt}
        trust = {"trust": columns["trust"][i].tolist()} if "trust" in columns else {}
        blocks.add(f"prompts:{i}", {**values, **trust})
        if only is None or f"parts:{i}" in only:
            blocks.add(f"parts:{i}", {name: quantise(x[flat], DECIMALS) for name, x in _list_parts(increases, i)})
    inside = completions.mask[flat]
    places = {condition: i for i, condition in enumerate(increases.conditions)}
    coloured = [] if tokens is None else [places[condition] for condition in tokens.conditions]
    for i, increase in zip(coloured, () if tokens is None else tokens.increase, strict=True):
        if only is None or f"tokens:{i}" in only:
            blocks.add(f"tokens:{i}", {"increase": quantise(increase[flat][inside], DECIMALS)})
    meta = _describe(report, increases.conditions, per_prompt, unsteered)
    return Packed(blocks, {**meta, "coloured": coloured, "n_prompts": len(chosen)}, ())


def marks_reasoning(completions: Completions) -> bool:
    """Whether reasoning is shown apart from the answer: where a label rule looks for an answer behind it."""
    return completions.reasoning is not None and completions.labelling.rule == "final_answer"


def _list_parts(increases: Increases, i: int) -> Iterator[tuple[str, Float[np.ndarray, " completion"]]]:
    """The parts of the increases under one condition; to the answer is to its own token, whatever decides the label."""
    for name in (*_PARTS, *(("in_reasoning",) if marks_reasoning(increases.completions) else ())):
        values = getattr(increases, name)[i]
        if name == "increase_to_answer" and not increases.completions.labelling.is_first_passage:
            spelled = increases.before_answer[i] + increases.at_answer[i]
            values = np.where(increases.completions.answer_index >= 0, spelled, values)
        yield name, values


def _describe(
    report: Report, conditions: tuple[Condition, ...], per_prompt: list[str], unsteered: list[str]
) -> dict[str, Any]:
    """What the page's scripts must know before they inflate a block."""
    relative = {dose.condition: _keep_finite(dose.relative) for dose in report.doses}
    fixed = {"decimals": DECIMALS, "group": _GROUP, "per_prompt": per_prompt, "unsteered": unsteered}
    return {
        "conditions": [
            [c.vector, c.kind, c.layer, c.dose, c.positions, c.site, c.operation, c.multiplier, relative.get(c)]
            for c in conditions
        ],
        "dose": name_doses(report),
        "best": None if report.best is None else conditions.index(report.best.condition),
        "quantities": describe_quantities(report, {*per_prompt, *unsteered, *(row.quantity for row in report.rows)}),
        "cards": list(_CARDS),
        "trust": [[name, f"share_{name}"] for name in TRUST],
        **fixed,
    }


def describe_quantities(report: Report, names: set[str]) -> dict[str, dict[str, Any]]:
    """The words of some quantities, by name, in the order in which they are shown."""
    return {
        quantity.name: {
            "label": _name_quantity(quantity, report.target),
            **{name: getattr(quantity, name) for name in ("meaning", "group", "unit", "decimals", "signed")},
            "percent": UNITS[quantity.unit].percent,
        }
        for quantity in map(find_quantity, sorted(names, key=rank_quantity))
    }


def _name_quantity(quantity: Quantity, target: str) -> str:
    """Its label on one line, as a heading has it."""
    words = " ".join(quantity.label.replace("{A}", target).split())
    return f"{words[0].upper()}{words[1:]}"


def _list_summary(report: Report, conditions: tuple[Condition, ...]) -> dict[str, list[Any]]:
    """The summary in columns, numbers as they are; ``condition`` is its place, -1 for the unsteered model."""
    place = {condition: i for i, condition in enumerate(conditions)}
    rows = [
        {
            "condition": place.get(row.condition, -1),
            **{"quantity": row.quantity, "weighting": row.weighting, "split": row.split},
            **{"n_prompts": row.estimate.n, "n_dropped": row.n_dropped},
            **{name: getattr(row.estimate, name) for name in _ESTIMATE},
            **vars(row.inference),
        }
        for row in report.rows
    ]
    columns = {name: [_keep_finite(row[name]) for row in rows] for name in (rows[0] if rows else ())}
    return {name: values for name, values in columns.items() if any(value is not None for value in values)}


def _keep_finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _list_prompts(
    prompts: list[Prompt], completions: Completions, rows: list[Int[np.ndarray, " _"]]
) -> dict[str, list[Any]]:
    """The prompts, and how many completions and tokens each has."""
    return {
        **{name: [getattr(prompt, name) for prompt in prompts] for name in ("id", "text", "matching")},
        "size": [len(some) for some in rows],
        "tokens": [int(completions.lengths[some].sum()) for some in rows],
    }


def _list_texts(completions: Completions, rows: Int[np.ndarray, " row"]) -> dict[str, list[Any]]:
    """Completions, then their tokens; ``token_end`` counts UTF-16 units, and tokens without text share the next's."""
    mask, logprob, known = completions.mask[rows], completions.logprob[rows], completions.reasoning
    ends = [accumulate(map(_count_units, completions.pieces[row])) for row in rows]
    return {
        "text": [completions.text[row] for row in rows],
        "label": completions.label[rows].tolist(),
        "count": completions.counts[rows].tolist(),
        "answer_index": completions.answer_index[rows].tolist(),
        **({"n_reasoning": known[rows].tolist()} if marks_reasoning(completions) and known is not None else {}),
        "ended": completions.ended[rows].tolist(),
        "n_tokens": completions.lengths[rows].tolist(),
        "logprob": quantise(np.where(mask, logprob, 0.0).sum(-1), DECIMALS),
        "token_id": completions.token_ids[rows][mask].tolist(),
        "token_end": list(chain.from_iterable(ends)),
        "token_logprob": quantise(logprob[mask], DECIMALS),
    }


def _count_units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
