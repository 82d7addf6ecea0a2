"""What a page is made of, without a browser: blocks, cuts, what is left out, and what may stand in HTML."""

import base64
import json
import re
import subprocess
import sys
import zlib
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from page_runs import STRANGE, make_run

from completions_lp.records import Condition, InputError
from completions_lp.show.page import write_page
from completions_lp.show.page.blocks import MISSING, Blocks, quantise
from completions_lp.show.page.document import show_plain, show_text
from completions_lp.show.page.grids import LongTable
from completions_lp.show.page.packing import pack_run
from completions_lp.show.page.reading import choose_coloured, read_run


def inflate(blocks, name):
    """Columns of a block, one value at a time, from the description in its docstring alone."""
    data, place, columns = zlib.decompress(base64.b64decode(blocks.texts[name])), 0, {}
    for column, kind, size in blocks.columns[name]:
        width = {"json": 1, "u1": 1, "q4": 4, "f8": 8}[kind]
        part = data[place : place + size * width]
        place += size * width
        words = [bytes(part[plane * size + i] for plane in range(width)) for i in range(size)]
        if kind == "json":
            columns[column] = json.loads(part)
        elif kind == "f8":
            columns[column] = [np.frombuffer(word, "<f8")[0] for word in words]
        else:
            codes = [int.from_bytes(word, "little") for word in words]
            columns[column] = codes if kind == "u1" else [c // 2 if c % 2 == 0 else -(c + 1) // 2 for c in codes]
    assert place == len(data)
    return columns


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    make_run(folder, strange=True)
    return folder


def test_blocks_hold_what_was_put_in():
    rng = np.random.default_rng(0)
    whole = rng.integers(-(2**31), 2**31, 300).astype(np.int32)
    whole[:4] = [MISSING, 2**31 - 1, 0, -1]
    real = np.array([0.1, -0.0, np.inf, np.nan, 5e-324, *rng.normal(size=50)])
    blocks = Blocks()
    blocks.add(
        "b", {"whole": whole, "text": ["<", "\u2028", "é😀"], "real": real, "small": np.arange(9, dtype=np.uint8)}
    )
    found = inflate(blocks, "b")
    assert found["whole"] == whole.tolist()
    assert found["text"] == ["<", "\u2028", "é😀"]
    assert np.array(found["real"]).tobytes() == real.tobytes()
    assert found["small"] == list(range(9))
    with pytest.raises(TypeError, match="float32"):
        blocks.add("c", {"x": np.zeros(2, dtype=np.float32)})


def test_quantised_values_are_those_that_are_shown():
    values = np.array([0.1234567, -3.0004, 1e9, -1e9, np.nan, 0.0])
    assert quantise(values, 3).tolist() == [123, -3000, 2**31 - 1, -(2**31) + 1, MISSING, 0]
    rng = np.random.default_rng(1)
    many = rng.normal(0, 30, 2000)
    assert [f"{code / 1000:.3f}" for code in quantise(many, 3).tolist()] == [f"{value:.3f}" for value in many]


def test_a_long_table_is_read_whatever_its_order(tmp_path):
    rng = np.random.default_rng(2)
    conditions = [Condition("v", "target", layer, m) for layer in range(3) for m in (-1.0, 1.0)]
    rows = [
        {"prompt_id": f"p{i}", "vector": "v", "kind": "target", "layer": c.layer, "multiplier": c.multiplier}
        | {"positions": "completion", "x": float(rng.normal())}
        for c in conditions
        for i in range(5)
    ]
    rng.shuffle(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=7)
    places = {f"p{i}": i for i in range(4)}  # p4 is not wanted
    table = LongTable(tmp_path / "t.parquet", "score", places)
    assert set(table.conditions) == set(conditions)
    grid = table.read({"x": 3, "y": 3}, conditions[1:4], 4)
    assert list(grid) == ["x"]
    for row in rows:
        c = Condition("v", "target", row["layer"], row["multiplier"])
        if c in conditions[1:4] and row["prompt_id"] in places:
            want = quantise(np.array([row["x"]]), 3)[0]
            assert grid["x"][conditions[1:4].index(c), places[row["prompt_id"]]] == want


def test_what_is_read_is_what_is_stored(folder):
    data = read_run(folder)
    said = data.said
    completions = pq.read_table(folder / "completions.parquet").to_pylist()
    place = {(row["prompt_id"], row["completion_id"]): k for k, row in enumerate(completions)}
    for row in pq.read_table(folder / "scores.parquet").to_pylist()[::7]:
        c = Condition(*(row[name] for name in ("vector", "kind", "layer", "multiplier", "positions")))
        code = data.parts["increase"][data.conditions.index(c), place[row["prompt_id"], row["completion_id"]]]
        assert code / 1000 == pytest.approx(row["increase"], abs=0.00051)
    for row in pq.read_table(folder / "tokens.parquet").to_pylist()[::11]:
        c = Condition(*(row[name] for name in ("vector", "kind", "layer", "multiplier", "positions")))
        k = said.token_starts[place[row["prompt_id"], row["completion_id"]]] + row["token"]
        assert data.increases[data.coloured.index(c), k] / 1000 == pytest.approx(row["increase"], abs=0.00051)
        assert said.tokens["token_id"][k] == row["token_id"]
    for k, row in enumerate(completions):
        ends = said.tokens["end"][said.token_starts[k] : said.token_starts[k + 1]].tolist()
        units = row["text"].encode("utf-16-le")
        cuts = [units[2 * a : 2 * b].decode("utf-16-le") for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        assert cuts == row["pieces"]
    assert [*STRANGE[4], ""] == completions[4]["pieces"]


class Reader(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.elements, self.inside, self.text = [], [], {}

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        for tag in set(self.inside):
            self.text[tag] = self.text.get(tag, "") + data


def test_nothing_foreign_becomes_an_element(folder):
    text = write_page(folder).read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    scripts = [attrs for tag, attrs in reader.elements if tag == "script"]
    assert sum("type" not in attrs for attrs in scripts) == 1, "one script of the page's own"
    assert {attrs.get("type") for attrs in scripts} == {None, "text/plain", "application/json"}
    assert {tag for tag, _ in reader.elements} & {"b", "i", "img", "iframe", "object"} == set()
    assert reader.text["title"] == "made-up: <made> up"
    assert not [attrs for _, attrs in reader.elements if any(name.startswith("on") for name in attrs)]
    addresses = [attrs[name] for _, attrs in reader.elements for name in ("src", "href") if name in attrs]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert re.findall(r"https?://[^\s\"']+", re.sub(r"<script.*?</script>", "", text, flags=re.S)) == []


def test_the_policy_names_the_script_by_its_hash(folder):
    text = write_page(folder).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    from hashlib import sha256

    for kind, found in (
        ("script", re.search(r"<script>(.*?)</script>", text, re.S)),
        ("style", re.search(r"<style>(.*?)</style>", text, re.S)),
    ):
        digest = base64.b64encode(sha256(found[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_signs_that_are_not_seen_are_shown():
    assert (
        show_text("<b>\u202e&\x07\n")
        == '<bdi>&lt;b&gt;<span class="sign">U+202E</span>&amp;<span class="sign">U+0007</span>\n</bdi>'
    )
    assert show_plain('"\u200f<') == "&quot;&lt;U+200F&gt;&lt;" or show_plain('"\u200f<') == "&quot;&lt;U+200F&gt;&lt;"
    assert show_text("👩\u200d👧") == "<bdi>👩\u200d👧</bdi>"


def test_what_does_not_fit_is_left_out_in_order(tmp_path):
    make_run(tmp_path, n_prompts=120, n_completions=12, n_random=2, n_tokens=20)
    data = read_run(tmp_path)
    everything = pack_run(data, 10**9)
    assert everything.left_out == ()
    full, last = everything.blocks.size, everything
    seen = []
    for share in (0.9, 0.7, 0.5, 0.3, 0.1):
        packed = pack_run(data, int(share * full))
        assert packed.blocks.size <= share * full
        assert packed.blocks.size <= last.blocks.size
        assert packed.blocks.texts["summary"] == everything.blocks.texts["summary"], "the numbers are always whole"
        seen.append(len(packed.left_out))
        last = packed
    assert seen == sorted(seen)
    assert [text.split(" under")[0].split(" of ")[0] for text in last.left_out[:2]] == [
        "the token colours",
        "the completions' increases",
    ]
    assert re.fullmatch(r"\d+ of 120 prompts: \d+ drawn at random \(seed 0\) are here", last.left_out[2])
    again = pack_run(data, int(0.1 * full))
    assert again.blocks.texts == last.blocks.texts, "the same seed leaves the same prompts"
    kept = inflate(last.blocks, "prompts")["words"]["id"]
    assert len(kept) == last.meta["n_prompts"]
    assert kept == sorted(kept, key=lambda name: int(name[1:])), "in the order asked"


def test_some_conditions_keep_their_token_colours(folder):
    data = read_run(folder)
    chosen = choose_coloured(data.conditions, data.summary, 4)
    assert {c.kind for c in chosen} == {"target"}
    effect = {}
    for row in data.summary.to_pylist():
        if row["quantity"] == "increase_to_answer_A" and row["kind"] == "target":
            effect[row["layer"]] = max(effect.get(row["layer"], 0), abs(row["value"]))
    best = max(effect, key=effect.get)
    assert {c.multiplier for c in chosen if c.layer == best} >= {-1.0, 1.0}
    assert [c for c in data.conditions if c in chosen] == list(chosen)


def test_figures_are_part_of_the_page_as_far_as_there_is_room(tmp_path):
    make_run(tmp_path, n_prompts=2, layers=(0,), n_random=0)
    figures = tmp_path / "figures"
    figures.mkdir()
    (figures / "a_b.png").write_bytes(b"\x89PNG small")
    (figures / "a_b.txt").write_text("What <it> shows.\n", encoding="utf-8")
    (figures / "large.png").write_bytes(bytes(300_000))
    text = write_page(tmp_path, limit=1_000_000).read_text(encoding="utf-8")
    assert base64.b64encode(b"\x89PNG small").decode() in text
    assert "What &lt;it&gt; shows." in text
    assert "the figure" in text
    assert "large.png" in text
    assert len(text) < 1_000_000


def test_columns_and_tables_may_be_missing(tmp_path):
    make_run(tmp_path, n_prompts=3, tokens=None)
    for name, columns in (
        ("prompts.parquet", ["trust", "p_A", "p_A_steered", "share_A", "positions"]),
        ("completions.parquet", ["pieces", "token_logprob"]),
        ("summary.parquet", ["split", "se", "p_max_t", "positions"]),
        ("scores.parquet", ["positions", "before_answer"]),
    ):
        table = pq.read_table(tmp_path / name)
        pq.write_table(table.drop_columns(columns), tmp_path / name)
    (tmp_path / "report.md").unlink()
    text = write_page(tmp_path).read_text(encoding="utf-8")
    assert "This run has no headline" in text
    assert "the sentence" in write_page(tmp_path, sentence="the sentence").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("summary.parquet", "report"),
        ("prompts.parquet", "report"),
        ("scores.parquet", "score"),
        ("questions.parquet", "sample"),
    ],
)
def test_a_missing_table_names_the_stage_that_makes_it(tmp_path, name, stage):
    make_run(tmp_path, n_prompts=2, layers=(0,), n_random=0)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"no {name}; run the {stage} stage first"):
        write_page(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_limit_that_holds_nothing_is_refused(folder):
    with pytest.raises(InputError, match="at least 1000000"):
        write_page(folder, limit=1000)


def test_a_page_needs_neither_torch_nor_matplotlib(folder):
    code = (
        "import sys; from completions_lp.show.page import write_page; write_page(sys.argv[1]);"
        "print(sorted({'torch', 'transformers', 'matplotlib', 'nnsight'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
