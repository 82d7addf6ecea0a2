"""Units of work: the rectangles that they cover against a slow twin, and their tables, read back to the last bit."""

import math

import hypothesis
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from hypothesis import strategies as st
from runs import do_stages, make_place

from completions_lp import store
from completions_lp.records import BASELINE, Condition, Draw
from completions_lp.work.cover import Block, Shelf, find_missing, join_blocks

LENGTHS = {"a": 3, "b": 1, "c": 2, "d": 4, "e": 1}
"""Items and how many tokens each has."""
NAMES = ("logprob", "kl")
POOL = ("k0", "k1", "k2", "k3")
some_items = st.lists(st.sampled_from(sorted(LENGTHS)), min_size=1, unique=True)
some_conditions = st.lists(st.sampled_from(POOL), min_size=1, unique=True)
rectangles = st.lists(st.tuples(some_items, some_conditions), max_size=4)
quick = hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
slower = hypothesis.settings(quick, max_examples=40)  # a file each


def true_increase(item, condition, t, name="logprob"):
    """A number that the indices say, so that a misplaced one is seen; a power of two apart, so that sums are exact."""
    return (1 + "abcde".index(item)) + 8 * (1 + POOL.index(condition)) + t / 8 + 64 * NAMES.index(name)


def make_block(items, conditions, *, noise=0.0, dtype=np.float64, infinite=()):
    """A block of true numbers, all its log probs ``noise`` apart from those of another pass."""
    width = max(LENGTHS[item] for item in items)
    base = np.full((len(items), width), np.nan, dtype=dtype)
    steered = {name: np.full((len(conditions), len(items), width), np.nan, dtype=dtype) for name in NAMES}
    for i, item in enumerate(items):
        for t in range(LENGTHS[item]):
            base[i, t] = -math.inf if (item, t) in infinite else -(i + 1) - noise
            for c, condition in enumerate(conditions):
                change = true_increase(item, condition, t)
                steered["logprob"][c, i, t] = change if (item, t) in infinite else base[i, t] + change
                steered["kl"][c, i, t] = true_increase(item, condition, t, "kl")
    return Block(items, conditions, {"logprob": base}, steered)


@quick
@hypothesis.given(rectangles, some_items, some_conditions)
def test_what_is_missing_is_found_each_number_once(rectangles, items, conditions):
    blocks = [Block(some, named, {}, {}) for some, named in rectangles]
    has = {(item, condition) for some, named in rectangles for item in some for condition in named}
    wanted = {(item, condition) for item in items for condition in conditions}
    missing = find_missing(blocks, items, conditions)
    found = [(items[i], conditions[c]) for some, columns in missing for i in some for c in columns]
    assert len(found) == len(set(found))
    assert set(found) == wanted - has
    assert all(some == sorted(some) and columns == sorted(columns) for some, columns in missing)
    firsts = [columns[0] for _, columns in missing]
    assert firsts == sorted(firsts)


@quick
@hypothesis.given(rectangles, some_items, some_conditions, st.booleans(), st.data())
def test_blocks_join_as_a_dictionary_of_their_numbers_does(rectangles, items, conditions, infinite, data):
    holes = {("a", 1), ("d", 0)} if infinite else set()
    blocks = [make_block(*pair, noise=2.0**-k, infinite=holes) for k, pair in enumerate(rectangles)]
    for some, columns in find_missing(blocks, items, conditions):
        chosen = [items[i] for i in some], [conditions[c] for c in columns]
        blocks.append(make_block(*chosen, noise=2.0 ** -len(blocks), infinite=holes))
    blocks = data.draw(st.permutations(blocks))
    width = max(LENGTHS[item] for item in items)  # which may be less than that of a block, and more
    joined = join_blocks(blocks, items, conditions, width=width)
    bases = {  # the slow twin: the unsteered numbers of the first block that has the first condition
        item: block.unsteered["logprob"][block.items.index(item)]
        for block in reversed(blocks)
        if conditions[0] in block.conditions
        for item in block.items
    }
    for i, item in enumerate(items):
        n = LENGTHS[item]
        np.testing.assert_array_equal(joined.unsteered["logprob"][i, :n], bases[item][:n])
        assert np.isnan(joined.unsteered["logprob"][i, n:]).all()
        for c, condition in enumerate(conditions):
            for name in NAMES:
                true = [true_increase(item, condition, t, name) for t in range(n)]
                start = [bases[item][t] if name == "logprob" and (item, t) not in holes else 0 for t in range(n)]
                np.testing.assert_array_equal(joined.steered[name][c, i, :n], np.add(start, true))
                assert np.isnan(joined.steered[name][c, i, n:]).all()


@quick
@hypothesis.given(some_items, some_conditions, st.integers(1, 3))
def test_parts_fill_a_whole_row_by_row(items, conditions, size):
    width = max(LENGTHS.values())
    whole, want = Block(items, conditions, {}, {}), make_block(items, conditions)
    for start in range(0, len(items), size):
        part = items[start : start + size]
        block = join_blocks([make_block(part, conditions)], part, conditions, width=width)
        whole.fill(range(start, start + len(part)), block)
    for name in NAMES:  # the unsteered numbers of this test say the row in the block
        change = whole.steered[name] - (whole.unsteered["logprob"] if name == "logprob" else 0)
        true = want.steered[name] - (want.unsteered["logprob"] if name == "logprob" else 0)
        np.testing.assert_array_equal(change[..., : true.shape[-1]], true)
        assert np.isnan(change[..., true.shape[-1] :]).all()


def test_conditions_of_one_key_are_done_once_and_each_gets_the_numbers():
    """Two vectors may be equal, as a target and itself without a confound that it has no part along."""
    items, conditions = ["a", "b"], ["k0", "k1", "k0"]
    assert find_missing([], items, conditions) == [([0, 1], [0, 1])]
    joined = join_blocks([make_block(items, ["k0", "k1"])], items, conditions, width=3)
    np.testing.assert_array_equal(joined.steered["kl"][2], joined.steered["kl"][0])
    assert np.isfinite(joined.steered["kl"][2, 0]).all()


def test_completions_of_probability_zero_keep_what_the_steered_model_says():
    first = make_block(["a"], ["k0"], infinite={("a", 1)})
    second = make_block(["a"], ["k1"], noise=0.5, infinite={("a", 1)})
    joined = join_blocks([second, first], ["a"], ["k0", "k1"], width=3)
    assert joined.unsteered["logprob"][0, 1] == -math.inf
    assert joined.steered["logprob"][1, 0, 1] == true_increase("a", "k1", 1)


def tabulate(block, conditions):
    lengths = [LENGTHS[item] for item in block.items]
    ids = [f"id-{item}" for item in block.items]
    return store.tabulate_sequences(block.items, ids, lengths, conditions, block.unsteered, block.steered)


numbers = st.one_of(
    st.sampled_from([-math.inf, math.inf, math.nan, 0.0, -0.0, 5e-324, 1.5]),
    st.floats(min_value=-(2.0**99), max_value=0, width=32),
)


@slower
@hypothesis.given(some_items, st.integers(1, 3), st.sampled_from([np.float32, np.float64]), st.booleans(), st.data())
def test_tables_of_scores_read_back_to_the_last_bit(tmp_path_factory, items, n, dtype, answers, data):
    width, extra = max(LENGTHS[item] for item in items), data.draw(st.integers(0, 2))
    mask = np.arange(width + extra) < np.array([LENGTHS[item] for item in items])[:, None]

    def draw(*shape):
        total = int(mask.sum()) * int(np.prod(shape, dtype=int))
        values = np.array(data.draw(st.lists(numbers, min_size=total, max_size=total)), dtype=dtype)
        grid = np.full((*shape, *mask.shape), np.nan, dtype=dtype)
        grid[..., mask] = values.reshape(*shape, -1)
        return grid

    unsteered = {"logprob": draw(), "entropy": draw(), **({"answer": draw()} if answers else {})}
    steered = {"logprob": draw(n), "kl": draw(n), **({"answer": draw(n)} if answers else {})}
    conditions = [Condition("v", "target", 1, float(c), "completion") for c in range(n)]
    block = Block(items, [f"k{c}" for c in range(n)], unsteered, steered)
    path = tmp_path_factory.mktemp("unit")
    unit = store.write_unit(path, "scores", {}, {"items": items}, tabulate(block, conditions), spent={})
    table = unit.read()
    got = store.read_sequences(table, len(items))
    for want, back in zip((unsteered, steered), got, strict=True):
        assert set(want) == set(back)
        for name, values in want.items():
            assert back[name].dtype == dtype
            assert back[name].tobytes() == np.ascontiguousarray(values[..., :width]).tobytes(), name


@slower
@hypothesis.given(st.lists(st.lists(st.lists(numbers, min_size=1, max_size=4), min_size=1, max_size=3), min_size=1))
def test_tables_of_draws_read_back_to_the_last_bit(tmp_path_factory, logprobs):
    drawn = [
        [
            Draw([7 * k + t for t in range(len(lp))], [np.float64(x) for x in lp], [k, k + 10], bool(k % 2))
            for k, lp in enumerate(part)
        ]
        for part in logprobs
    ]
    items = [f"i{i}" for i in range(len(drawn))]
    table = store.tabulate_draws(items, ["id"] * len(drawn), drawn)
    unit = store.write_unit(tmp_path_factory.mktemp("unit"), "draws", {}, {"items": items}, table, spent={})
    back = store.read_draws(unit.read())
    assert list(back) == items
    for item, part in zip(items, drawn, strict=True):
        assert [(list(d.token_ids), d.samples, d.ended) for d in back[item]] == [
            (d.token_ids, d.samples, d.ended) for d in part
        ]
        for one, two in zip(back[item], part, strict=True):
            assert np.array(one.logprob).tobytes() == np.array(two.logprob).tobytes()


def test_units_are_read_by_other_programs_as_they_are(tmp_path):
    items, conditions = ["a", "b"], [Condition("v", "target", 2, -1.5, "all"), Condition("w", "random", 0, 1.0)]
    block = make_block(items, ["k0", "k1"], dtype=np.float32)
    unit = store.write_unit(
        tmp_path, "scores", {"x": 1}, {"items": items}, tabulate(block, conditions), spent={"tokens": 5}
    )
    path = tmp_path / unit.name
    frame = pd.read_parquet(path)
    assert frame["item"].tolist() == items * 3
    assert frame["vector"].tolist() == [c.vector for c in (BASELINE, *conditions) for _ in items]
    assert frame["multiplier"].tolist()[2:4] == [-1.5, -1.5]
    assert frame["logprob"].map(len).tolist() == [3, 1] * 3
    assert frame["kl"].isna().tolist() == [True, True] + [False] * 4
    np.testing.assert_array_equal(frame["kl"][2], block.steered["kl"][0, 0])
    table = pyarrow.parquet.read_table(path)
    assert str(table.schema.field("logprob").type).startswith("list<")
    for name in ("polars", "duckdb"):
        try:
            module = __import__(name)
        except ImportError:
            continue
        if name == "polars":
            assert module.read_parquet(path)["item"].to_list() == items * 3
        else:
            assert module.read_parquet(str(path)).aggregate("count(*)").fetchone() == (6,)


def test_a_shelf_gives_units_by_items_and_takes_damaged_ones_for_missing(tmp_path):
    context = {"x": 1}
    names = {}
    for items in (["a", "b"], ["c"], ["d"]):
        table = tabulate(make_block(items, ["k0"]), [Condition("v", "target", 0, 1.0)])
        unit = store.write_unit(tmp_path, "scores", context, {"items": items, "conditions": ["k0"]}, table, spent={})
        names[items[0]] = unit.name

    def find(items):
        return [unit.name for unit, _ in Shelf(tmp_path, "scores", context).find(items)]

    assert find(["b", "a", "d"]) == sorted([names["a"], names["d"]])
    assert list(Shelf(None, "scores", context).find(["a"])) == []
    assert list(Shelf(tmp_path, "scores", {"x": 2}).find(["a"])) == []
    assert list(Shelf(tmp_path, "choices", context).find(["a"])) == []
    path = tmp_path / names["d"]
    whole = path.read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert find(["d"]) == []
    content = pyarrow.parquet.read_table(pyarrow.BufferReader(whole)).to_pylist()
    for at in range(4, len(whole) - 4, 5):  # one bit anywhere: the numbers are the same or the unit is not there
        edited = bytearray(whole)
        edited[at] ^= 4
        path.write_bytes(edited)
        for unit, table in Shelf(tmp_path, "scores", context).find(["d"]):
            assert unit.covers == {"items": ["d"], "conditions": ["k0"]}
            assert str(table.to_pylist()) == str(content)
    path.rename(path.with_name("0" * 32 + ".parquet"))  # of another name than what it covers
    assert find(["d"]) == []


@pytest.mark.parametrize("kind", ["scores", "draws"])
def test_a_unit_of_no_condition_or_one_token_stands(tmp_path, kind):
    if kind == "draws":
        table = store.tabulate_draws(["i"], ["id"], [[Draw([3], [-0.5], [0], True)]])
        assert store.read_draws(table)["i"][0].token_ids == [3]
    else:
        table = tabulate(Block(["b"], [], {"logprob": np.array([[-1.0]])}, {}), [])
        unsteered, steered = store.read_sequences(table, 1)
        assert unsteered["logprob"].tolist() == [[-1.0]]
        assert steered == {}


def test_units_are_looked_for_once_by_kind_and_context(tmp_path, tokenizer, monkeypatch):
    asked, find = [], store.find_units

    def count(folder, kind, context):
        asked.append((kind, store.hash_value(context)))
        return find(folder, kind, context)

    monkeypatch.setattr(store, "find_units", count)
    do_stages(make_place(tmp_path, tokenizer), tmp_path / "run")
    folders = list((tmp_path / "run" / "units" / "scores").iterdir())
    assert max(len(list(folder.iterdir())) for folder in folders) > 1  # a top-up of several conditions
    assert sorted(asked) == sorted(set(asked))
