"""What a page is made of, without a browser: blocks, cuts, what is left out, and what may stand in HTML."""

import base64
import dataclasses
import json
import math
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from page_runs import STRANGE, make_run

from completions_lp.quantities import find_quantity
from completions_lp.records import Condition, InputError
from completions_lp.show.page import Figure, make_page
from completions_lp.show.page.blocks import Blocks, quantise
from completions_lp.show.page.packing import choose_coloured, pack_report

CONDITION = ("vector", "kind", "layer", "multiplier", "positions")


def inflate(blocks, name):
    return json.loads(zlib.decompress(base64.b64decode(blocks.texts[name])))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"), strange=True)


@pytest.fixture(scope="module")
def page(made):
    return made.make()


def test_blocks_are_json_that_a_browser_inflates():
    columns = {"whole": [-(2**31), None, 0], "text": ["<", "\u2028", "é😀"], "real": [0.1, 5e-324, -0.0]}
    blocks = Blocks()
    blocks.add("b", columns)
    assert inflate(blocks, "b") == columns
    assert blocks.size == len(blocks.texts["b"])
    with pytest.raises(ValueError, match="not JSON compliant"):
        blocks.add("c", {"x": [math.nan]})


def test_quantised_values_are_those_that_are_shown():
    values = np.array([0.1234567, -3.0004, 1e9, np.inf, np.nan, 0.0])
    assert quantise(values, 3) == [123, -3000, 10**12, None, None, 0]
    many = np.random.default_rng(1).normal(0, 30, 2000)
    assert [f"{code / 1000:.3f}" for code in quantise(many, 3)] == [f"{value:.3f}" for value in many]


def test_what_is_packed_is_what_is_stored(made):
    packed = pack_report(made.report, made.tokens, room=10**9)
    meta = packed.meta
    conditions = [Condition(*condition[:5]) for condition in meta["conditions"]]
    rest = [(c.site, c.operation, c.multiplier) for c in conditions]
    assert [tuple(condition[5:8]) for condition in meta["conditions"]] == rest
    completions = pq.read_table(made.folder / "completions.parquet").to_pylist()
    places = {(row["prompt_id"], row["completion_id"]): k for k, row in enumerate(completions)}
    assert len(completions) <= 7 * meta["group"], "one block of texts"
    texts = inflate(packed.blocks, "texts:0")
    starts = np.cumsum([0, *texts["n_tokens"]])
    for row in pq.read_table(made.folder / "scores.parquet").to_pylist()[::7]:
        i = conditions.index(Condition(*(row[name] for name in CONDITION)))
        code = inflate(packed.blocks, f"parts:{i}")["increase"][places[row["prompt_id"], row["completion_id"]]]
        assert code / 1000 == pytest.approx(row["increase"], abs=0.00051)
    for row in pq.read_table(made.folder / "tokens.parquet").to_pylist()[::29]:
        i = conditions.index(Condition(*(row[name] for name in CONDITION)))
        k = starts[places[row["prompt_id"], row["completion_id"]]] + row["token"]
        assert inflate(packed.blocks, f"tokens:{i}")["increase"][k] / 1000 == pytest.approx(
            row["increase"], abs=0.00051
        )
        assert texts["token_id"][k] == row["token_id"]
    for k, row in enumerate(completions):
        ends = texts["token_end"][starts[k] : starts[k + 1]]
        units = row["text"].encode("utf-16-le")
        cuts = [units[2 * a : 2 * b].decode("utf-16-le") for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        assert cuts == row["pieces"]
    assert [*STRANGE[4], ""] == completions[4]["pieces"]


def test_the_increase_to_an_answer_is_to_its_own_token_whatever_decides_the_label(made):
    """The page tells a completion's parts apart by differences: before, at and after the answer's token."""
    increases = made.report.increases
    labelling = dataclasses.replace(increases.completions.labelling, rule="final_answer", within="all")
    said = dataclasses.replace(increases.completions, labelling=labelling)
    to_end = np.where(np.isfinite(increases.increase), increases.increase, increases.increase_to_answer)
    report = dataclasses.replace(
        made.report, increases=dataclasses.replace(increases, completions=said, increase_to_answer=to_end)
    )
    answered = said.answer_index >= 0
    assert 0 < answered.sum() < len(answered)
    codes = inflate(pack_report(report, None, room=10**9).blocks, "parts:0")["increase_to_answer"]
    want = np.where(answered, increases.before_answer[0] + increases.at_answer[0], to_end[0])
    order = np.concatenate([said.rows_of(i) for i in range(len(said.prompts))])
    assert codes == quantise(want[order], 3)


def test_the_words_of_the_page_are_those_of_the_quantities(made):
    packed = pack_report(made.report, None, room=10**9)
    told = packed.meta["quantities"]
    assert {row.quantity for row in made.report.rows} <= set(told)
    for name in ("kl", "kl_reverse", "delta_p_A_odd", "share_red"):
        quantity = find_quantity(name)
        assert told[name]["meaning"] == quantity.meaning
        assert told[name]["decimals"] == quantity.decimals
    assert "KL(unsteered ‖ steered)" in told["kl"]["meaning"]
    assert "KL(steered ‖ unsteered)" in told["kl_reverse"]["meaning"]
    assert told["delta_p_A"]["label"] == "Change of P(matching)"
    groups = [words["group"] for words in told.values()]
    assert len(set(groups)) == sum(a != b for a, b in zip(groups, ["", *groups[:-1]], strict=True)), "groups are whole"


def test_the_page_starts_from_the_best_cell(made):
    def start(report):
        text = make_page(report, made.info)
        meta = json.loads(re.search(r'id="meta">(.*?)</script>', text, re.S)[1])
        return meta["best"] if meta["best"] is None else Condition(*meta["conditions"][meta["best"]][:5])

    assert start(made.report) == made.report.best.condition
    assert start(replace(made.report, best=None)) is None


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


def test_nothing_foreign_becomes_an_element(made, page):
    figure = Figure("<b>", "<img src=x> \u202e</script>", b"png")
    text = make_page(made.report, made.info, figures=[figure])
    reader = Reader()
    reader.feed(text)
    scripts = [attrs for tag, attrs in reader.elements if tag == "script"]
    assert sum("type" not in attrs for attrs in scripts) == 1, "one script of the page's own"
    assert {attrs.get("type") for attrs in scripts} == {None, "text/plain", "application/json"}
    assert {tag for tag, _ in reader.elements} & {"b", "i", "iframe", "object"} == set()
    assert sum(tag == "img" for tag, _ in reader.elements) == 1, "the figure"
    assert "\u202e" not in re.sub(r"<script.*?</script>", "", text, flags=re.S)
    assert reader.text["title"] == "made-up: <made> up"
    assert not [attrs for _, attrs in reader.elements if any(name.startswith("on") for name in attrs)]
    addresses = [attrs[name] for _, attrs in reader.elements for name in ("src", "href") if name in attrs]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert re.findall(r"https?://[^\s\"']+", re.sub(r"<script.*?</script>", "", text, flags=re.S)) == []


def test_the_policy_names_the_script_by_its_hash(page):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind, found in (
        ("script", re.search(r"<script>(.*?)</script>", page, re.S)),
        ("style", re.search(r"<style>(.*?)</style>", page, re.S)),
    ):
        digest = base64.b64encode(sha256(found[1].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_what_does_not_fit_is_left_out_in_order(tmp_path):
    made = make_run(tmp_path, n_prompts=120, n_completions=12, n_random=2, n_tokens=20)

    def pack(room):
        return pack_report(made.report, made.tokens, room=int(room))

    everything = pack(10**9)
    assert everything.left_out == ()
    full, last = everything.blocks.size, everything
    seen = []
    for share in (0.9, 0.7, 0.5, 0.3, 0.1):
        packed = pack(share * full)
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
    again = pack(0.1 * full)
    assert again.blocks.texts == last.blocks.texts, "the same seed leaves the same prompts"
    kept = inflate(last.blocks, "prompts")["id"]
    assert len(kept) == last.meta["n_prompts"]
    assert kept == sorted(kept, key=lambda name: int(name[1:])), "in the order asked"


def test_some_conditions_keep_their_token_colours(made, monkeypatch):
    n_tokens = int(made.report.increases.completions.lengths.sum())
    monkeypatch.setattr("completions_lp.show.page.packing.TOKEN_CELLS", 4 * n_tokens)
    chosen = choose_coloured(made.report, made.tokens)
    assert len(chosen.conditions) == 4
    assert {c.kind for c in chosen.conditions} == {"target"}
    effect = {}
    for row in made.report.table("increase_to_answer_A"):
        effect[row.condition.layer] = max(effect.get(row.condition.layer, 0), abs(row.estimate.value))
    best = max(effect, key=effect.get)
    assert {c.multiplier for c in chosen.conditions if c.layer == best} >= {-1.0, 1.0}
    assert [c for c in made.tokens.conditions if c in chosen.conditions] == list(chosen.conditions)
    for condition, increase in zip(chosen.conditions, chosen.increase, strict=True):
        whole = made.tokens.increase[made.tokens.conditions.index(condition)]
        assert np.array_equal(increase, whole, equal_nan=True)


def test_figures_are_part_of_the_page_as_far_as_there_is_room(tmp_path):
    made = make_run(tmp_path, n_prompts=2, layers=(0,), n_random=0)
    small, large = Figure("a_b", "What <it> shows.", b"\x89PNG small"), Figure("large", "", bytes(300_000))
    text = make_page(made.report, made.info, figures=[large, small], limit=1_000_000)
    assert base64.b64encode(b"\x89PNG small").decode() in text
    assert "What &lt;it&gt; shows." in text
    assert "the figure large" in text
    assert len(text.encode()) < 1_000_000


def test_a_page_without_figures_tokens_and_measures(tmp_path):
    made = make_run(tmp_path, n_prompts=3, tokens=None)
    lacking = {"trust", "p_A", "p_A_steered", "share_A"}
    columns = {name: values for name, values in made.report.prompts.items() if name not in lacking}
    text = make_page(replace(made.report, prompts=columns), {})
    assert 'id="figures"' not in text
    assert '"coloured":[]' in text
    assert "<title>model: prompts</title>" in text
    with pytest.raises(InputError, match="no completions"):
        make_page(replace(made.report, increases=None), {})


def test_a_limit_that_holds_nothing_is_refused(made):
    with pytest.raises(InputError, match="at least 1000000"):
        made.make(limit=1000)


def test_a_page_needs_neither_torch_nor_matplotlib():
    heavy = {"torch", "transformers", "matplotlib", "nnsight"}
    code = f"import sys, completions_lp.show.page; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
