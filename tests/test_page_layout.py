"""How a page presents itself, as far as that is seen without a browser: head, contents, words and colours."""

import itertools
import re
import struct
from html.parser import HTMLParser

import numpy as np
import pytest
from page_runs import make_run

from completions_lp.quantities import QUANTITIES, TRUST
from completions_lp.show.page import Figure, make_page, name_run
from completions_lp.show.page.document import read_scripts, read_styles

VOID = {"meta", "link", "input", "br", "img", "fecolormatrix", "fefuncr", "fefuncg", "fefuncb"}
MODEL = {"model": {"name": "/models/tiny/model"}, "prompts": {"path": "prompts/being <b> shut down.jsonl"}}


class Tree(HTMLParser):
    """Elements with what they are inside of, and the text that a reader sees."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.inside, self.seen = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), tuple(self.inside)))
        if tag not in VOID:
            self.inside.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID and self.inside:
            assert self.inside[-1][0] == tag, f"</{tag}> closes <{self.inside[-1][0]}>"
            self.inside.pop()

    def handle_data(self, data):
        if {"script", "style"}.isdisjoint(tag for tag, _ in self.inside):
            self.seen.append((data, [attrs.get("id") for _, attrs in self.inside]))

    def find(self, name):
        return [(tag, attrs, inside) for tag, attrs, inside in self.elements if name in attrs.get("class", "").split()]


def draw(width, height):
    """The head of a PNG of this size, which is all that a page reads of it."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), n_prompts=24, n_random=2, strange=True)


@pytest.fixture(scope="module")
def text(made):
    figures = [Figure("one_column", "One.", draw(680, 600)), Figure("panels", "Three.", draw(1400, 480))]
    return make_page(made.report, made.info | {"config": MODEL}, figures=figures, tokens=made.tokens)


@pytest.fixture(scope="module")
def tree(text):
    return Tree(text)


def test_the_head_names_model_vector_and_behaviour(text):
    head = text[text.index("<header") : text.index("</header>")]
    told = dict(re.findall(r"<dt>(.*?)</dt><dd><bdi>(.*?)</bdi></dd>", head))
    assert told["Model"] == "tiny/model", "a folder called model does not say which"
    assert told["Vector"] == "kind &lt;i&gt;", "of the vectors, not of the controls"
    assert told["Behaviour"] == "being &lt;b&gt; shut down"
    assert (
        name_run({"config": {"model": {"name": "hub/some-model"}, "prompts": {"path": "a/b.csv"}}}) == "some-model: b"
    )


def test_the_contents_lead_to_every_section(tree):
    sections = [attrs["id"] for tag, attrs, _ in tree.elements if tag == "section"]
    links = [
        a["href"]
        for tag, a, inside in tree.elements
        if tag == "a" and any(x.get("id") == "contents" for _, x in inside)
    ]
    assert links == [f"#{name}" for name in sections]
    assert {"headline", "sweep", "figures", "explorer", "provenance"} <= set(sections)
    titles = [data for data, inside in tree.seen if inside[-1:] == [None] and "contents" in inside and data.strip()]
    headings = [data.strip() for data, inside in tree.seen if any(f"{name}-title" in inside for name in sections)]
    assert [title for title in titles if title != "Contents"] == [heading for heading in headings if heading]
    ids = [attrs["id"] for _, attrs, _ in tree.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs, _ in tree.elements:
        if tag == "a":
            assert attrs["href"].removeprefix("#") in ids


def test_contents_without_figures_do_not_name_them(made):
    tree = Tree(make_page(made.report, made.info))
    assert "#figures" not in [attrs.get("href") for _, attrs, _ in tree.elements]


def test_what_may_be_too_wide_scrolls_in_a_box_with_a_name_and_a_cue(tree):
    boxes = tree.find("scroll")
    assert len(boxes) >= 5
    for _, attrs, inside in boxes:
        assert inside[-1][1].get("class") == "scroller"
        assert "tabindex" in attrs
        assert attrs.get("aria-label") or attrs.get("aria-labelledby") or attrs["id"] == "heat-scroll"
    assert len(tree.find("cue")) == len(boxes)
    tables = [(attrs, inside) for tag, attrs, inside in tree.elements if tag == "table"]
    loose = [attrs for attrs, inside in tables if not any(x.get("class") == "scroll" for _, x in inside)]
    assert [attrs.get("class") for attrs in loose] == ["plain"], "only that of the keys, which wraps"


def test_figures_side_by_side_take_the_whole_width(tree):
    assert [attrs.get("class") for tag, attrs, _ in tree.elements if tag == "figure"] == [None, "wide-one"]
    sizes = [(attrs["width"], attrs["height"]) for tag, attrs, _ in tree.elements if tag == "img"]
    assert sizes == [("680", "600"), ("1400", "480")], "so that nothing moves when they are loaded"
    assert not Figure("not", "", b"a picture").wide


def test_readers_meet_no_names_of_columns(made, tree):
    """Names of quantities and of checks are for files; what a page says is in words, but for what was run."""
    shown = " ".join(data for data, inside in tree.seen if "provenance" not in inside)
    raw = {name for name in {*QUANTITIES, *made.report.checks} if "_" in name}
    assert sorted(name for name in raw if re.search(rf"\b{name}\b", shown)) == []
    assert "shrunken)" not in shown


def test_every_check_is_explained(made, text):
    checks = re.search(r'<dl class="checks".*?</dl>', text, re.S)[0]
    assert checks.count("<dt>") == len(made.report.checks)
    assert '<dd class="why"></dd>' not in checks


def read_trust():
    """The colours of trust, in the light and in the dark."""
    styles = read_styles()
    found = [re.search(rf"--{name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", styles) for name in TRUST]
    assert all(styles.count(found_one[i]) == 1 for found_one in found for i in (1, 2)), "each stands in one place"
    return [{name: one[i] for name, one in zip(TRUST, found, strict=True)} for i in (1, 2)]


def brighten(colour):
    """Linear red, green and blue."""
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def place(linear):
    """Where a colour lies in CIELAB, in which distances are roughly those that are seen."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in to_xyz @ linear / [0.9505, 1.0, 1.089]]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


SIGHTS = {
    "all cones": np.eye(3),
    "no green cones": np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]),
    "no red cones": np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]]),
}
"""What is left of a colour, in linear red, green and blue (Viénot, Brettel and Mollon 1999)."""


@pytest.mark.parametrize("dark", [False, True])
def test_green_is_green_red_is_red_and_everyone_tells_them_apart(dark):
    colours = read_trust()[dark]
    red, green, blue = brighten(colours["green"])
    assert green > 2 * max(red, blue)
    red, green, blue = brighten(colours["red"])
    assert red > 2 * max(green, blue)
    for sight in SIGHTS.values():
        seen = [place(np.clip(sight @ brighten(colours[name]), 0, 1)) for name in TRUST]
        assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 18


def test_each_kind_of_trust_has_a_mark_of_its_own():
    marks = re.search(r"TRUST_MARKS = \{(.*?)\}", read_scripts()["words"])[1]
    found = dict(re.findall(r'(\w+): "(.+?)"', marks))
    assert list(found) == list(TRUST)
    assert len(set(found.values())) == len(TRUST)


def test_the_dark_is_in_every_part():
    styles = read_styles()
    colours = re.findall(r"^  (--[\w-]+): (.*#\w+.*);", styles, re.M)
    assert len(colours) > 12
    assert [name for name, value in colours if not value.startswith("light-dark(")] == []
    assert styles.count("filter: url(#darken)") == 2, "as the system has it, and as the reader chose"


def test_a_page_takes_little_beside_its_run(text):
    rest = re.sub(r'<script type="text/plain".*?</script>|src="data:[^"]*"', "", text, flags=re.S)
    assert len(rest.encode()) < 135_000
