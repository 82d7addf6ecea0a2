"""Put the blocks of `analysis/results` into the pages that show them.

    python docs/results.py

A page shows a block between `<!-- results: PAGE/BLOCK -->` and `<!-- end -->`. Blocks are written by the scripts of
`analysis/pages`; a page whose text differs from the block fails a test.
"""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "analysis/results"
BLOCK = re.compile(r"(?P<open><!-- results: (?P<name>[\w/-]+) -->\n)(?P<text>.*?)(?P<close><!-- end -->)", re.DOTALL)


def find_pages() -> Iterator[Path]:
    """All pages that a reader sees: the README, the documentation, and the page on the analysis."""
    yield ROOT / "README.md"
    yield ROOT / "analysis/README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def fill(text: str) -> str:
    """A page with each of its blocks as the results have it."""

    def put(found: re.Match[str]) -> str:
        block = (RESULTS / f"{found['name']}.md").read_text(encoding="utf-8").strip()
        return f"{found['open']}\n{block}\n\n{found['close']}"

    return BLOCK.sub(put, text)


def main() -> None:
    """Fill all pages, and name those that changed."""
    for page in find_pages():
        text = page.read_text(encoding="utf-8")
        if (filled := fill(text)) != text:
            page.write_text(filled, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
