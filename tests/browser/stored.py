"""What is stored about the things that a page shows, and what it shows of them."""

import csv
import math

import pyarrow.parquet as pq
import pytest
from browser.driver import number, tolerance

PARTS = ("increase", "increase_to_answer", "before_answer", "at_answer", "after_answer")


def read_csv(folder):
    with (folder / "summary.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_summary(folder, vector, layer, multiplier):
    """Rows of summary.csv about one condition."""
    wanted = (vector, layer, multiplier)
    return [row for row in read_csv(folder) if (row["vector"], float(row["layer"]), float(row["multiplier"])) == wanted]


def read_rows(folder, name, condition, prompt=None):
    """Rows of a table about one condition, and one prompt if that is given."""
    filters = [(key, "=", value) for key, value in zip(("vector", "layer", "multiplier"), condition, strict=True)]
    filters += [] if prompt is None else [("prompt_id", "=", prompt)]
    return pq.read_table(folder / name, filters=filters).to_pylist()


def read_scores(folder, prompt, condition):
    """Completions of a prompt with their scores."""
    table = pq.read_table(folder / "completions.parquet", filters=[("prompt_id", "=", prompt)]).to_pylist()
    said = {row["completion_id"]: row for row in table}
    scores = read_rows(folder, "scores.parquet", condition, prompt)
    return [{**said[row["completion_id"]], **{part: row[part] for part in PARTS}} for row in scores]


def shown_rows(page):
    """The table of numbers: quantity, weighting, split, whether unsteered, and the cells of every row."""
    return page.run(
        """return [...document.querySelectorAll('#table tbody tr[data-quantity]')].map((row) => [
        row.dataset.quantity, row.dataset.weighting, row.dataset.split, 'unsteered' in row.dataset,
        Object.fromEntries([...row.querySelectorAll('[data-column]')].map((cell) =>
            [cell.dataset.column, cell.textContent]))])"""
    )


def shown_completions(page):
    """The completions in the order shown, with their numbers as text."""
    return page.run(
        """return [...document.querySelectorAll('#completions > li')].map((item) => ({
        number: Number(item.dataset.completion), label: item.querySelector('.label').textContent,
        count: parseInt(item.querySelector('.count').textContent), text: item.querySelector('.text').textContent,
        ...Object.fromEntries([...item.querySelectorAll('[data-part]')].map((part) =>
            [part.dataset.part, part.querySelector('dd').textContent]))}))"""
    )


def check_table(page, folder, condition, *, exact):
    """Every row of the table is a row of summary.csv, to the digits shown, and none is missing."""
    stored = {(r["quantity"], r["weighting"], r["split"]): r for r in read_summary(folder, *condition)}
    unsteered = {(r["quantity"], r["weighting"], r["split"]): r for r in read_summary(folder, "", -1.0, 0.0)}
    seen = set()
    for *key, base, cells in shown_rows(page):
        row = (unsteered if base else stored)[tuple(key)]
        seen.add((base, *key))
        for column in ("value", "low", "high"):
            want = float(row[column] or "nan")
            if math.isnan(want):
                assert cells[column] == "\N{EN DASH}", (key, column)
            elif exact:
                assert number(cells[column]) == want, (key, column)
            elif "·" not in cells[column]:
                assert number(cells[column]) == pytest.approx(want, abs=tolerance(key[0])), (key, column)
        assert number(cells["n_prompts"]) == float(row["n_prompts"])
    assert seen == {(False, *key) for key in stored} | {(True, *key) for key in unsteered}
