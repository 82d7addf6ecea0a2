"""``tokens.parquet`` is read by the ids that its rows name."""

import numpy as np
import pyarrow.parquet as pq
from page_runs import make_run

from completions_lp import store


def test_tokens_are_read_whatever_the_order_of_the_rows(tmp_path):
    made = make_run(tmp_path, n_prompts=5, block=2)
    completions = made.report.increases.completions
    assert set(made.tokens.conditions) == set(made.report.increases.conditions)
    assert np.array_equal(np.isfinite(made.tokens.increase[0]), completions.mask)
    sums = np.nansum(made.tokens.increase.astype(np.float64), -1)
    for condition, total in zip(made.tokens.conditions, sums, strict=True):
        c = made.report.increases.conditions.index(condition)
        np.testing.assert_allclose(total, made.report.increases.increase[c], atol=1e-4)
    table = pq.read_table(tmp_path / "tokens.parquet")
    order = np.random.default_rng(0).permutation(table.num_rows)
    pq.write_table(table.take(order), tmp_path / "tokens.parquet", row_group_size=97)
    again = store.read_token_increases(tmp_path, completions)
    for condition, increase in zip(again.conditions, again.increase, strict=True):
        c = made.tokens.conditions.index(condition)
        assert np.array_equal(increase, made.tokens.increase[c], equal_nan=True)
    assert again.increase.dtype == np.float32


def test_other_prompts_are_passed_over_and_no_table_is_none(tmp_path):
    made = make_run(tmp_path, n_prompts=5)
    completions = made.report.increases.completions
    some = store.read_token_increases(tmp_path, completions.select([3, 1]))
    for c, condition in enumerate(some.conditions):
        whole = made.tokens.increase[made.tokens.conditions.index(condition)]
        rows = np.concatenate([completions.rows_of(3), completions.rows_of(1)])
        assert np.array_equal(some.increase[c], whole[rows], equal_nan=True)
    (tmp_path / "tokens.parquet").unlink()
    assert store.read_token_increases(tmp_path, completions) is None
