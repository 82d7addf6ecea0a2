"""The embedded model, prompts and pairs: the job of `completions-lp run` without arguments."""

import hashlib
import json
import re

import numpy as np
import pyarrow.parquet
import pytest

from completions_lp import store
from completions_lp.cli import main
from completions_lp.job.config import DATA, EMBEDDED
from completions_lp.job.results import load
from completions_lp.records import Condition


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The default run, whole."""
    folder = tmp_path_factory.mktemp("runs") / "default"
    assert main(["run", "--quiet", "--out", str(folder)]) == 0
    return folder


def test_the_default_run_is_of_the_promised_size(folder):
    info = store.read_info(folder)
    table = pyarrow.parquet.read_table(folder / "completions.parquet").to_pandas()
    per_prompt = table.groupby("prompt_id")["count"].sum()
    assert len(per_prompt) == 60
    assert set(per_prompt) == {100}
    grid = pyarrow.parquet.read_table(folder / "scores.parquet", columns=["layer", "multiplier"]).to_pandas()
    grid = grid[grid["multiplier"] != 0].drop_duplicates()
    assert len(grid) == 4 * info["model"]["n_layers"]


def test_the_vector_raises_matching_answers_and_its_opposite_lowers_them(folder):
    report = load(folder)

    def headline(layer, multiplier):
        return report.estimate("increase_to_answer_A", Condition("cautious", "target", layer, multiplier))

    rises = [layer for layer in range(5) if headline(layer, 1.0).low > 0.1 and headline(layer, -1.0).high < -0.1]
    assert rises
    best = report.estimate("logit_diff_change", Condition("cautious", "target", rises[0], 1.0))
    assert best.low > 0.5
    for row in report.table("increase_all"):
        assert row.estimate.value <= 0.01, row  # it estimates -KL
    assert report.checks["noise_floor"] <= 1e-5
    assert report.checks["sampler_gap"] <= 5e-4


def test_completions_differ_and_some_answer_late(folder):
    table = pyarrow.parquet.read_table(folder / "completions.parquet").to_pandas()
    assert table.groupby("prompt_id").size().min() >= 10
    shares = table.groupby("label")["count"].sum() / table["count"].sum()
    assert 0.3 < shares["A"] < 0.7
    assert 0.3 < shares["B"] < 0.7
    late = table[table["answer_index"] >= 10]
    assert late["count"].sum() / table["count"].sum() > 0.1
    assert table["answer_index"].max() < 20


def test_what_a_newcomer_sees_first_is_the_tool_working_well(folder):
    """The cell that the report is about is trusted on every prompt; where steering damages, a few prompts are red."""
    report = load(folder)
    assert report.errors == ()
    assert report.checks["share_red"] < 0.1
    assert report.estimate("share_red", report.best.condition).value == 0
    worst = max(report.table("share_red"), key=lambda row: row.estimate.value)
    assert 0 < worst.estimate.value < 0.5
    assert worst.condition.layer == 4


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_prompts_and_pairs_are_balanced_and_apart():
    prompts, pairs = (read_rows(DATA / kind / "cautious.jsonl") for kind in ("prompts", "pairs"))
    assert len(prompts) >= 60
    assert len(pairs) >= 200
    assert not {row["question"] for row in prompts} & {row["question"] for row in pairs}
    for rows in (prompts, pairs):
        matching = [row["answer_matching_behavior"] for row in rows]
        assert matching.count(" (A)") == matching.count(" (B)") == len(rows) / 2
        assert all(row["answer_not_matching_behavior"] != m for row, m in zip(rows, matching, strict=True))


def test_the_data_are_those_that_the_readme_describes():
    found = re.findall(r"\| `([\w./-]+)` \| [\d,]+ \| `([0-9a-f]{64})` \|", (DATA / "README.md").read_text())
    assert len(found) >= 4
    for name, digest in found:
        assert hashlib.sha256((DATA / name).read_bytes()).hexdigest() == digest, name
    assert sum(file.stat().st_size for file in (DATA / "tiny-chooser").iterdir()) < 6_000_000


def test_the_same_seed_gives_the_same_run(folder, tmp_path):
    again = tmp_path / "again"
    for stage in ("vector", "sample"):
        assert main([stage, str(again), "--config", str(EMBEDDED), "--quiet", "--set", "run.memory_budget=0.05"]) == 0
    one, two = (pyarrow.parquet.read_table(place / "completions.parquet").to_pandas() for place in (folder, again))
    same = (one.groupby("prompt_id")["token_ids"].apply(lambda ids: [tuple(i) for i in ids])) == (
        two.groupby("prompt_id")["token_ids"].apply(lambda ids: [tuple(i) for i in ids])
    )
    assert same.mean() > 0.95  # but for a draw within rounding of an edge of the distribution function
    assert np.isclose(one["count"].sum(), two["count"].sum())
