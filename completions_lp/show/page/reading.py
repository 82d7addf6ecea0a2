"""A run directory -> what its page is made of. Tables and columns that are not there stay empty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int, Shaped

from completions_lp.records import Condition
from completions_lp.show.page.blocks import quantise
from completions_lp.show.page.grids import LongTable
from completions_lp.store import read_info
from completions_lp.store.files import read_table

DECIMALS = 3
"""What is kept of log probs and their increases: thousandths of a nat, as they are shown."""
PARTS = {"increase": DECIMALS, "increase_to_answer": DECIMALS, "before_answer": DECIMALS}
PER_PROMPT = {
    **dict.fromkeys(("p_A_steered", "p_A_steered_low", "p_A_steered_high"), 4),
    **{"delta_p_A": 2, "log_ratio_A": 3, "increase_to_answer_A": 3, "increase_to_answer_A_rb": 3},
    **dict.fromkeys(("increase_A", "increase_not_A", "increase_all", "kl", "logit_diff_change"), 3),
    **{"mass_steered": 4, "ess": 1},
}
"""Decimals kept of what ``prompts.parquet`` has per prompt and condition."""
UNSTEERED = {"n": 0, "n_unique": 0, "n_A": 0, "share_A": 4, "mass": 4, "p_A": 4, "p_A_low": 4, "p_A_high": 4}
"""The same for what does not depend on the condition."""
TRUST = ("certified", "green", "red")
TOKEN_CELLS = 8_000_000
"""Increases of single tokens that a page carries at most."""


@dataclass(frozen=True, eq=False)
class Said:
    """Prompts and their distinct completions, in columns; completions are grouped by prompt."""

    prompts: tuple[dict[str, Any], ...]
    starts: Int[np.ndarray, " prompt_1"]
    """First completion of every prompt, and the end of the last."""
    text: tuple[str, ...]
    label: tuple[str, ...]
    numbers: dict[str, Int[np.ndarray, " completion"]]
    """``count``, ``answer_index``, ``ended``, ``n_tokens``, ``logprob`` (quantised)."""
    token_starts: Int[np.ndarray, " completion_1"]
    tokens: dict[str, Int[np.ndarray, " token"]]
    """``token_id``, ``end`` of its text, unsteered ``logprob`` (quantised)."""
    has_cuts: bool
    """Whether the run says what the text of each token is."""

    @property
    def places(self) -> dict[str, int]:
        """The place of every prompt by its id."""
        return {prompt["id"]: i for i, prompt in enumerate(self.prompts)}


@dataclass(frozen=True, eq=False)
class RunData:
    """Everything that a page may show, before any of it is left out."""

    info: dict[str, Any]
    said: Said
    conditions: tuple[Condition, ...]
    parts: dict[str, Int[np.ndarray, "condition completion"]]
    coloured: tuple[Condition, ...]
    """Conditions with increases of single tokens."""
    increases: Int[np.ndarray, "coloured token"]
    steered: dict[str, Int[np.ndarray, "condition prompt"]]
    unsteered: dict[str, Int[np.ndarray, " prompt"]]
    trust: Shaped[np.ndarray, "condition prompt"]
    summary: Any
    """The summary as a pyarrow table."""
    sentence: str
    """The headline; empty where the run has none yet."""
    errors: tuple[str, ...]
    """Checks of the instrument that failed."""


def read_run(folder: Path) -> RunData:
    """Read a run directory; raises InputError where it is none, or lacks a table that a page needs."""
    info = read_info(folder)
    summary = read_table(folder / "summary.parquet", "report")
    said = read_said(folder)
    scores = LongTable(folder / "scores.parquet", "score", said.places)
    conditions = scores.conditions
    keys = ("prompt_id", "completion_id")
    parts = scores.read(PARTS, conditions, len(said.text), keys=keys, locate=_locate_completions(said))
    coloured, increases = _read_tokens(folder, said, summary)
    prompts = LongTable(folder / "prompts.parquet", "report", said.places)
    n = len(said.prompts)
    first = prompts.conditions[:1]
    unsteered = {name: grid[0] for name, grid in prompts.read(UNSTEERED, first, n).items()} if first else {}
    return RunData(
        info=info,
        said=said,
        conditions=conditions,
        parts=parts,
        coloured=coloured,
        increases=increases,
        steered=prompts.read(PER_PROMPT, conditions, n),
        unsteered=unsteered,
        trust=prompts.read_codes("trust", conditions, n, words=TRUST),
        summary=summary,
        sentence=read_sentence(folder),
        errors=tuple(info.get("errors") or ()),
    )


def read_sentence(folder: Path) -> str:
    """The paragraph under the title of ``report.md``, which is the headline; empty where there is none."""
    path = folder / "report.md"
    paragraphs = iter(path.read_text(encoding="utf-8").split("\n\n") if path.is_file() else [])
    titled = any(paragraph.startswith("# ") for paragraph in paragraphs)
    return next(paragraphs, "").strip() if titled else ""


def read_said(folder: Path) -> Said:
    """Read the prompts and completions, and cut each text where its tokens end."""
    questions = read_table(folder / "questions.parquet", "sample").to_pylist()
    prompts = tuple({"id": row.pop("prompt_id"), **row} for row in questions)
    places = {prompt["id"]: i for i, prompt in enumerate(prompts)}
    table = read_table(folder / "completions.parquet", "sample")
    index = np.array([places[name] for name in table["prompt_id"].to_pylist()], dtype=np.int64)
    order = np.lexsort((table["completion_id"].to_numpy(), index))
    table = table.take(pa.array(order))
    lengths = np.array([len(ids) for ids in table["token_ids"].to_pylist()], dtype=np.int32)
    text = tuple(value or "" for value in table["text"].to_pylist())
    ends = _cut(table, text)
    return Said(
        prompts=prompts,
        starts=np.searchsorted(index[order], np.arange(len(prompts) + 1)).astype(np.int32),
        text=text,
        label=tuple(label or "" for label in table["label"].to_pylist()),
        numbers={
            **{name: table[name].to_numpy().astype(np.int32) for name in ("count", "answer_index")},
            "ended": np.asarray(table["ended"].to_numpy(zero_copy_only=False)).astype(np.int32),
            "n_tokens": lengths,
            "logprob": quantise(table["logprob"].to_numpy(), DECIMALS),
        },
        token_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
        tokens={
            "token_id": _flatten(table, "token_ids").astype(np.int32),
            "end": np.array([end for row in ends for end in row], dtype=np.int32),
            "logprob": quantise(_flatten(table, "token_logprob").astype(np.float64), DECIMALS),
        },
        has_cuts="pieces" in table.column_names,
    )


def choose_coloured(conditions: Sequence[Condition], summary: Any, limit: int) -> tuple[Condition, ...]:
    """The conditions whose single tokens are shown where only some can be.

    Target vectors come first, and of these the layer at which the increase to the answer is moved most.
    """
    effect: dict[tuple[str, int], float] = {}
    for row in summary.filter(pa.compute.equal(summary["quantity"], "increase_to_answer_A")).to_pylist():
        key, value = (row["vector"], int(row["layer"])), abs(row["value"] or 0.0)
        effect[key] = max(effect.get(key, 0.0), 0.0 if np.isnan(value) else value)
    ranked = sorted(conditions, key=lambda c: (c.kind != "target", -effect.get((c.vector, c.layer), 0.0), c.layer))
    chosen = set(ranked[:limit])
    return tuple(condition for condition in conditions if condition in chosen)


def _read_tokens(
    folder: Path, said: Said, summary: Any
) -> tuple[tuple[Condition, ...], Int[np.ndarray, "coloured token"]]:
    size = int(said.token_starts[-1])
    if not (folder / "tokens.parquet").is_file() or size == 0:
        return (), np.zeros((0, size), dtype=np.int32)
    table = LongTable(folder / "tokens.parquet", "score", said.places)
    coloured = choose_coloured(table.conditions, summary, max(TOKEN_CELLS // size, 1))
    locate = _locate_completions(said)

    def locate_tokens(rows: Mapping[str, np.ndarray]) -> np.ndarray:
        completion = locate(rows)
        inside = (completion >= 0) & (rows["token"] < said.numbers["n_tokens"][completion])
        return np.where(inside, said.token_starts[completion] + rows["token"], -1)

    keys = ("prompt_id", "completion_id", "token")
    grids = table.read({"increase": DECIMALS}, coloured, size, keys=keys, locate=locate_tokens)
    return coloured, grids["increase"]


def _locate_completions(said: Said) -> Any:
    """From prompt and number within the prompt to the completion's place; -1 where there is none."""

    def locate(rows: Mapping[str, np.ndarray]) -> np.ndarray:
        prompt, number = rows["prompt_id"], rows["completion_id"]
        place = said.starts[prompt] + number
        return np.where((prompt >= 0) & (place < said.starts[prompt + 1]), place, -1)

    return locate


def _cut(table: Any, text: Sequence[str]) -> list[list[int]]:
    """The end of each token's text, in UTF-16 code units as browsers count; a token with none shares the next one's.

    In a run that does not say what its tokens' texts are, all tokens of a completion share its text.
    """
    if "pieces" not in table.column_names:
        lengths = [len(ids) for ids in table["token_ids"].to_pylist()]
        return [[*[0] * (n - 1), _count_units(said)] for said, n in zip(text, lengths, strict=True)]
    return [list(accumulate(map(_count_units, pieces))) for pieces in table["pieces"].to_pylist()]


def _count_units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2


def _flatten(table: Any, name: str) -> np.ndarray:
    """A column of lists, one after the other."""
    if name not in table.column_names:
        return np.full(sum(len(ids) for ids in table["token_ids"].to_pylist()), np.nan)
    return np.asarray(table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False))
