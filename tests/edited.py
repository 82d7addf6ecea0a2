"""A run directory made by hand without a model, and hand edits of its tables, as a person or a program makes them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from test_store import make_whole_scores, write_all

from completions_lp import store
from completions_lp.records import Labelling, Sampling

TABLES = ("questions", "completions", "scores", "measures", "choices", "profile", "tokens")


def make_run(folder):
    """Every table of a run of nine prompts; returns the folder."""
    folder.mkdir(exist_ok=True)
    write_all(folder, make_whole_scores())
    return folder


def read_run(folder):
    """Every reader of a run directory, in the order in which a report calls them."""
    completions = store.read_completions(folder, sampling=Sampling(n=6), labelling=Labelling())
    increases = store.read_increases(folder, completions)
    return {
        "completions": completions,
        "scores": increases,
        "choices": store.read_choices(folder, increases),
        "measures": store.read_measures(folder, increases),
        "profile": store.read_profile(folder),
        "tokens": store.read_token_increases(folder, completions),
        "info": store.read_info(folder),
        "quality": store.read_quality(folder),
        "figures": store.read_figures(folder),
    }


def list_edits(table):
    """Name and edited table, of every edit of every column."""
    n = table.num_rows
    for i, name in enumerate(table.column_names):
        column, kind = table[name], table.schema.field(name).type
        yield f"{name} dropped", table.drop_columns([name])
        yield f"{name} renamed", table.rename_columns([f"{x}_" if x == name else x for x in table.column_names])
        yield f"{name} twice", table.append_column(name, column)
        values = {
            "with one missing": pa.array([None, *column.to_pylist()[1:]], kind),
            "without values": pa.nulls(n, kind),
            "without a type": pa.nulls(n),
            "as text": pa.array([str(x) for x in column.to_pylist()]),
            "as numbers": pa.array(range(n)),
            "as fractions": pa.array([0.5] * n),
            "infinite": pa.array([np.inf] * n),
            "undefined": pa.array([np.nan] * n),
            "negative": pa.array([-5] * n),
            "huge": pa.array([2**40] * n),
            "as lists": pa.array([[1]] * n),
            "as empty lists": pa.array([[]] * n, pa.list_(pa.int64())),
            "as records": pa.array([{"a": 1}] * n),
            "as truth": pa.array([True] * n),
            "as bytes": pa.array([b"\xff"] * n),
            "empty": pa.array([""] * n),
            "shuffled": column.take(pa.array(np.random.default_rng(0).permutation(n))),
        }
        for what, edited in values.items():
            yield f"{name} {what}", table.set_column(i, name, edited)
    yield "no rows", table.slice(0, 0)
    yield "half of the rows", table.slice(0, n // 2)
    yield "all rows twice", pa.concat_tables([table, table])
    yield "one row twice", pa.concat_tables([table, table.slice(0, 1)])
    yield "another table", pa.table({"x": [1]})
