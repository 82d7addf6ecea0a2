"""``tokens.parquet`` -> the increases of single tokens, by the ids that its rows name, whatever their order."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
from jaxtyping import Int

from completions_lp.records import Completions, Condition, TokenIncreases
from completions_lp.store.completions import completion_ids
from completions_lp.store.scores import CONDITION

_WORDS = ["prompt_id", "vector", "kind", "positions"]


def read_token_increases(folder: Path, completions: Completions) -> TokenIncreases | None:
    """Read the increases of the tokens of some completions under every condition that is kept; None where none is.

    One row group is read at a time, since the table may be much larger than what is kept of it.
    """
    path = folder / "tokens.parquet"
    if not path.is_file():
        return None
    prompts = {prompt.id: i for i, prompt in enumerate(completions.prompts)}
    number = completion_ids(completions)
    rows = np.full((len(prompts) + 1, int(number.max(initial=0)) + 1), -1, dtype=np.int64)  # the last: other prompts
    rows[completions.prompt_index, number] = np.arange(len(completions))
    found: dict[Condition, np.ndarray] = {}
    file = pa.parquet.ParquetFile(path, read_dictionary=_WORDS)
    for group in range(file.num_row_groups):
        table = file.read_row_group(group, columns=["prompt_id", "completion_id", "token", "increase", *CONDITION])
        codes, conditions = _code_conditions(table)
        completion = rows[_place_words(table["prompt_id"], prompts), table["completion_id"].to_numpy()]
        token, increase = table["token"].to_numpy(), table["increase"].to_numpy()
        for code, condition in conditions.items():
            grid = found.setdefault(condition, np.full(completions.token_ids.shape, np.nan, dtype=np.float32))
            here = (codes == code) & (completion >= 0)
            grid[completion[here], token[here]] = increase[here]
    shape = (len(found), *completions.token_ids.shape)
    return TokenIncreases(tuple(found), np.stack([*found.values()]) if found else np.empty(shape, dtype=np.float32))


def _code_conditions(table: pa.Table) -> tuple[Int[np.ndarray, " row"], Mapping[int, Condition]]:
    """Every row's condition as a code, and what each code stands for, in the order of the rows."""
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for name in CONDITION:
        words = pa.compute.dictionary_encode(table[name]).unify_dictionaries().combine_chunks()
        codes = codes * max(len(words.dictionary), 1) + words.indices.to_numpy()
    known, first = np.unique(codes, return_index=True)
    order = np.argsort(first)
    keys = table.select(CONDITION).take(pa.array(first[order])).to_pylist()
    return codes, {int(code): Condition(**key) for code, key in zip(known[order], keys, strict=True)}


def _place_words(column: pa.ChunkedArray, places: Mapping[str, int]) -> Int[np.ndarray, " row"]:
    """The place of every word; -1 where it has none."""
    words = pa.compute.dictionary_encode(column).unify_dictionaries().combine_chunks()
    known = np.array([places.get(word, -1) for word in words.dictionary.to_pylist()], dtype=np.int64)
    return np.asarray(known[words.indices.to_numpy()])
