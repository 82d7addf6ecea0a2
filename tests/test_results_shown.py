"""Numbers in the documentation are those that the scripts wrote: none is typed by hand."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import results  # noqa: E402  (of docs/)

sys.path.remove(str(ROOT / "docs"))
PAGES = [page for page in results.find_pages() if results.BLOCK.search(page.read_text(encoding="utf-8"))]
PAPERS = sorted((ROOT / "docs/papers").glob("*.md"))
NO_RESULT = re.compile(r"```.*?```|`[^`]*`|\[[^\]]*\]\([^)]*\)|arXiv[: ]\d{4}\.\d{4,5}|\d{4}\.\d{5}|§[\d.]+", re.DOTALL)
"""Code, links and citations."""
NUMBER = re.compile(r"[+−-]\d+\.\d+|\d+\.\d+ (?:pp|nats)|\[[+−-]?\d+\.\d+, [+−-]?\d+\.\d+\]")
"""What only a measurement gives: a signed decimal, one with a unit, an interval."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_its_blocks_as_they_are(page):
    text = page.read_text(encoding="utf-8")
    assert results.fill(text) == text, "python docs/results.py"


def test_every_block_is_shown():
    shown = {found["name"] for page in PAGES for found in results.BLOCK.finditer(page.read_text(encoding="utf-8"))}
    there = {str(path.relative_to(results.RESULTS).with_suffix("")) for path in results.RESULTS.rglob("*.md")}
    assert sorted(shown) == sorted(there)


@pytest.mark.parametrize("page", PAPERS, ids=lambda page: page.name)
def test_a_page_on_a_paper_has_no_measured_number_outside_its_blocks(page):
    rest = NO_RESULT.sub("", results.BLOCK.sub("", page.read_text(encoding="utf-8")))
    assert not NUMBER.findall(rest)


def test_a_block_that_differs_is_put_right():
    name = str(next(results.RESULTS.rglob("*.md")).relative_to(results.RESULTS).with_suffix(""))
    text = f"Before\n<!-- results: {name} -->\n\nold\n\n<!-- end -->\nAfter\n"
    filled = results.fill(text)
    assert "old" not in filled
    assert filled.startswith("Before\n<!-- results")
    assert filled.endswith("<!-- end -->\nAfter\n")
    assert results.fill(filled) == filled
