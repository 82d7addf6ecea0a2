"""A model on a server: the same numbers as here, little sent, and what is said where something is wrong.

The server (``ndif.py``) is another process that speaks nnsight's wire protocol, without this package; blocks run there
as in a sandbox, on copies and without weights.
"""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import make_prompts, make_vector
from families import make_family
from nnsight import TransformersModel
from test_operations import make_spanned, mix

import completions_lp as clp
from completions_lp.job.config import DATA
from completions_lp.model import find_comparison, landing, parcel, remote, served
from completions_lp.model.pieces import Piece
from completions_lp.model.squeeze import expand, squeeze
from completions_lp.quantities import QUANTITIES
from completions_lp.records import InputError, NotFinite, Sampling
from completions_lp.score.grid import score_tokens

FAMILIES = ("llama", "gpt2", "gemma2", "phi", "bloom", "mamba")
"""Plain; another layout; a soft cap and sliding windows; a bias; outputs that are tuples; no keys and values at all."""
CHOOSER = str(DATA / "tiny-chooser")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tokenizer):
    """Tiny random models as checkpoints, by family."""
    made = {}
    for family in FAMILIES:
        made[family] = tmp_path_factory.mktemp(family)
        make_family(family).save_pretrained(made[family])
        tokenizer.save_pretrained(made[family])
    return {family: str(folder) for family, folder in made.items()}


class Far:
    """The server process, told what is to go wrong by ``want``."""

    def __init__(self, *words):
        script = str(Path(__file__).with_name("ndif.py"))
        self.process = subprocess.Popen(
            [sys.executable, "-P", script, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.url = self.process.stdout.readline().strip()
        assert self.url, "the server did not start"

    def stop(self):
        self.process.kill()
        self.process.communicate()

    def want(self, **what):
        self._ask(json.dumps(what).encode())

    @property
    def log(self):
        return self._ask(None)

    def _ask(self, body):
        with urllib.request.urlopen(f"{self.url}/test", body) as answer:  # noqa: S310  our own server
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def far(folders):
    served = Far("float32", CHOOSER, *folders.values())
    yield served
    served.stop()


@pytest.fixture(autouse=True)
def nothing_loads(monkeypatch):
    """No weights are read for a model on a server."""
    monkeypatch.setattr(TransformersModel, "dispatch", lambda _: pytest.fail("weights are loaded"))


@pytest.fixture(scope="module")
def chooser(far):
    """The embedded model there and here, prompts, pairs and completions."""
    there, here = clp.load_model(CHOOSER, remote=far.url), clp.load_model(CHOOSER, dtype="float32")
    prompts = clp.load_prompts(DATA / "prompts" / "cautious.jsonl", here.tokenizer)[:4]
    pairs = clp.load_pairs(DATA / "pairs" / "cautious.jsonl", here.tokenizer)[:8]
    return there, here, prompts, pairs, clp.extract_vector(here, pairs, progress=False)


def draw(model, prompts, **options):
    sampling = options.pop("sampling", Sampling(n=20, max_new_tokens=8))
    return clp.sample_completions(model, prompts, sampling=sampling, progress=False, **options)


def assert_same_draws(one, other):
    assert (one.token_ids == other.token_ids).all()
    assert (one.counts == other.counts).all()
    assert (one.ended == other.ended).all()
    np.testing.assert_allclose(one.logprob, other.logprob, atol=2e-5)


def test_no_weights_are_here_and_its_own_account_says_where_they_are(chooser, far):
    there, here, *_ = chooser
    assert {p.device.type for p in there.module.parameters()} == {"meta"}
    told = there.describe()
    assert (told["device"], told["host"], told["dtype"]) == ("remote", far.url, "float32")
    assert told["server"]["torch"] == torch.__version__
    assert told["tokenizer"] == here.describe()["tokenizer"]
    assert told["weights"].startswith("folder:")
    assert there.network is None  # no pass can be made here by mistake


def test_a_vector_and_its_quality_are_those_of_here(chooser):
    there, _, _, pairs, vector = chooser
    found = clp.extract_vector(there, pairs, progress=False)
    for layer, direction in vector.directions.items():
        np.testing.assert_allclose(found.directions[layer], direction, atol=1e-6)
        np.testing.assert_allclose(
            [*vars(found.quality[layer]).values()], [*vars(vector.quality[layer]).values()], atol=1e-5
        )


def test_shuffled_pairs_and_the_rounding_direction_are_those_of_here(chooser):
    from completions_lp.model import draw_rounding_vector
    from completions_lp.steer.controls import shuffle_labels
    from completions_lp.steer.vectors import read_differences

    there, here, _, pairs, vector = chooser
    shuffled = [shuffle_labels(read_differences(m, pairs, progress=False), vector, 2, seed=3) for m in (there, here)]
    for one, other in zip(*shuffled, strict=True):
        assert one.name == other.name
        for layer in one.directions:
            np.testing.assert_allclose(one.directions[layer], other.directions[layer], atol=1e-6)
    one, other = draw_rounding_vector(there), draw_rounding_vector(here)
    for layer in one.directions:
        np.testing.assert_allclose(one.directions[layer], other.directions[layer], rtol=1e-5)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(n=20, max_new_tokens=8),
        Sampling(greedy=True, max_new_tokens=8),
        Sampling(n=20, max_new_tokens=6, temperature=1.5, top_k=40, top_p=0.9),
        Sampling(n=8, max_new_tokens=6, seeds=(3, 4)),
    ],
    ids=["plain", "greedy", "warped", "seeds"],
)
def test_draws_are_those_of_here(chooser, sampling):
    there, here, prompts, *_ = chooser
    one, other = draw(there, prompts, sampling=sampling), draw(here, prompts, sampling=sampling)
    assert_same_draws(one, other)
    if other.sampler_logprob is not None:
        np.testing.assert_allclose(one.sampler_logprob, other.sampler_logprob, atol=2e-5)


@pytest.mark.parametrize("positions", ["completion", "all", "prompt", "first:2"])
def test_steered_draws_are_those_of_here(chooser, positions):
    there, here, prompts, _, vector = chooser
    (condition,) = clp.make_conditions([vector], layers=[2], multipliers=[1.0], positions=positions)[:1]
    options = {"vectors": [vector], "condition": condition}
    assert_same_draws(draw(there, prompts, **options), draw(here, prompts, **options))


def compare_scores(one, other):
    for name, near in {"baseline": 2e-5, "logprob": 3e-5}.items():
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=near, err_msg=name)
    for name in ("baseline_answers", "answers"):  # of which the probabilities are summed
        found, expected = getattr(one, name), getattr(other, name)
        assert (np.isneginf(found) == np.isneginf(expected)).all()
        np.testing.assert_allclose(np.exp(found), np.exp(expected), rtol=1e-4, atol=2e-7, err_msg=name)
    np.testing.assert_allclose(one.entropy, other.entropy, atol=2e-5)
    for name in ("kl", "kl_reverse"):  # 12 binary digits
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=3e-4, atol=3e-5, err_msg=name)


@pytest.mark.parametrize("positions", ["completion", "all"])
@pytest.mark.parametrize("engine", ["tree", "rows"])
def test_scores_are_those_of_here(chooser, positions, engine, monkeypatch):
    there, here, prompts, _, vector = chooser
    monkeypatch.setattr(there.server, "told", {**there.server.told, "rows": engine == "rows"})
    conditions = clp.make_conditions([vector], layers=[1, 3], multipliers=[-1.0, 1.0], positions=positions)
    completions = draw(here, prompts)
    asked = {"target": "matching", "kl": True, "progress": False}
    compare_scores(*(score_tokens(m, completions, [vector], conditions, **asked) for m in (there, here)))


@pytest.mark.parametrize("engine", ["tree", "rows"])
def test_mixed_operations_are_those_of_here(chooser, engine, monkeypatch):
    there, here, prompts, *_ = chooser
    monkeypatch.setattr(there.server, "told", {**there.server.told, "rows": engine == "rows"})
    vectors = [make_spanned(here), make_spanned(here, seed=4, name="w")]
    conditions, completions = mix(here, vectors), draw(here, prompts[:2])
    asked = {"target": "matching", "kl": True, "progress": False}
    compare_scores(*(score_tokens(m, completions, vectors, conditions, **asked) for m in (there, here)))
    for condition in conditions[1::6]:
        options = {"vectors": vectors, "condition": condition}
        assert_same_draws(draw(there, prompts, **options), draw(here, prompts, **options))


def test_a_small_budget_splits_conditions_and_changes_no_number(chooser):
    there, here, prompts, _, vector = chooser
    conditions = clp.make_conditions([vector], layers=[1, 3], multipliers=[-1.0, 1.0])
    completions, asked = draw(here, prompts), {"target": "matching", "kl": True, "progress": False}
    before = there.usage.passes
    split = score_tokens(there, completions, [vector], conditions, memory_budget=1e-4, **asked)
    assert there.usage.passes - before > len(prompts)
    compare_scores(split, score_tokens(there, completions, [vector], conditions, **asked))


def test_choices_are_those_of_here(chooser):
    there, here, prompts, _, vector = chooser
    conditions = clp.make_conditions([vector], layers=[1, 3], multipliers=[-1.0, 1.0])
    one, other = (clp.read_choices(m, prompts, [vector], conditions, progress=False) for m in (there, here))
    for name in ("baseline", "logprob", "baseline_all", "logprob_all"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=4e-5, err_msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_families_give_the_numbers_of_here(family, far, folders, tokenizer, recwarn):
    there = clp.load_model(folders[family], remote=far.url)
    here = clp.load_model(folders[family], dtype="float32")
    compared = find_comparison(here)
    assert (there.usage.engine == "tree") == compared.exact, compared.describe()
    prompts, vector = make_prompts()[:3], make_vector(here)
    conditions = clp.make_conditions([vector], layers=[0, here.n_layers - 1], multipliers=[1.0])
    completions = draw(here, prompts)
    assert_same_draws(draw(there, prompts), completions)
    asked = {"target": "matching", "kl": True, "progress": False}
    compare_scores(*(score_tokens(m, completions, [vector], conditions, **asked) for m in (there, here)))


def test_half_precision_there_is_told_and_sums_logits_wide(folders, tokenizer):
    served = Far("bfloat16", folders["llama"])
    try:
        there, here = (
            clp.load_model(folders["llama"], remote=served.url),
            clp.load_model(folders["llama"], dtype="float32"),
        )
        assert (there.describe()["dtype"], there.residual) == ("bfloat16", "weights")
        completions = draw(here, make_prompts()[:3])
        one, other = (score_tokens(m, completions, [], [], progress=False) for m in (there, here))
        off = (one.baseline - other.baseline)[np.isfinite(other.baseline)]
        assert 1e-5 < np.abs(off).mean() < 0.05
    finally:
        served.stop()


def test_a_server_that_runs_requests_under_autocast_rounds_no_logits(monkeypatch, build_model):
    """What is read of the last hidden states is read in their own precision, whatever passes are made in."""
    model = build_model("llama")
    paths = {
        "blocks": [],
        "head": "lm_head",
        "decoder": "model",
        "rows": False,
        "dtype": "float32",
        "form": [1.0, None],
    }
    site = served.Site(model.network, paths)
    piece = Piece([5, 6, 7], [[8, 9], [8, 10, 11]], reach=(False, None), rows=False, divergences=True).ask([{}])
    hidden = torch.randn(1, piece["nodes"].max() + 2, model.d_model, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(site, "run", lambda *_, **__: hidden)
    grower = served.Growing(site, [[5, 6]], done={}, reach=(False, None), held=2**20)
    monkeypatch.setattr(grower, "_run_trees", lambda _: hidden[0])

    def read():
        scored = served._score_pass(site, piece, {})
        ((_, logits),) = grower.step([0], [0], [6])
        return [*(planes for planes, *_ in scored.values()), logits]

    plain = read()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (hidden @ hidden.mT).dtype == torch.bfloat16
        under = read()
    assert all(torch.equal(one, other) for one, other in zip(plain, under, strict=True))


OVERRIDES = {
    "prompts": {"limit": 4},
    "sampling": {"n": 12, "max_new_tokens": 8, "top_up": 6},
    "scoring": {"layers": [1, 3], "multipliers": [-1.0, 1.0], "readings": True},
    "controls": {"shuffled_labels": 1, "negated": True},
    "vector": {"layers": [1, 3]},
}


@pytest.fixture(scope="module")
def runs(far, tmp_path_factory):
    """A whole run there, and the same one here."""
    place = tmp_path_factory.mktemp("runs")
    far.want()
    models = {"there": {"remote": far.url}, "here": {"dtype": "float32"}}
    for name, model in models.items():
        clp.run(out=place / name, progress=False, model=model, **OVERRIDES)
    return place, far.log


ITSELF = {"low", "high", "p", "noise", "boot_low", "boot_high", "rounding", "sd", "z"}
"""Of rounding itself, or resampled of numbers that tie but for it."""


def find_tolerance(name):
    """Of a column or quantity: 2e-5 of a probability or a nat; float32 itself rounds log odds of next to nothing."""
    if name.startswith(("util_odds", "log_odds_change_answered")):
        return 2e-2
    stem = name.removesuffix("_odd")
    unit = QUANTITIES[stem].unit if stem in QUANTITIES else ""
    return 2e-3 if unit == "pp" else 1e-4 if name.startswith(("kl", "excess_surprisal")) else 2e-5


TABLES = ("summary", "prompts", "scores", "completions", "choices", "measures", "profile", "readings")


@pytest.mark.parametrize("table", TABLES)
def test_tables_of_a_whole_run_are_those_of_here(runs, table):
    place, _ = runs
    one, other = (pq.read_table(place / name / f"{table}.parquet") for name in ("there", "here"))
    assert one.schema.equals(other.schema)
    assert len(one) == len(other)
    for name in one.column_names:
        values = [t[name].to_pylist() for t in (one, other)]
        if name in ITSELF or not values[0]:
            continue
        if any(isinstance(x, list) for x in values[0]):
            values = [[x for row in column for x in (row or ())] for column in values]
        if any(isinstance(x, float) for x in values[0]):
            pair = [np.array([np.nan if x is None else x for x in column], dtype=float) for column in values]
            if name == "logprobs":  # of answers that are read: a rare one is sent roughly
                pair = [np.exp(column) for column in pair]
            named = one["quantity"].to_pylist() if name == "value" and "quantity" in one.column_names else [name]
            near = np.array([find_tolerance(quantity) for quantity in named])
            assert (np.isnan(pair[0]) == np.isnan(pair[1])).all(), name
            off = np.abs(pair[0] - pair[1])
            assert not (off > near + 2e-5 * np.abs(pair[1])).any(), (name, np.nanmax(off))
        elif name != "logprob":
            assert values[0] == values[1], name


def test_bytes_are_counted_by_unit_and_are_few(runs):
    place, log = runs
    info = json.loads((place / "there" / "run.json").read_text())
    spent = [
        json.loads(pq.read_schema(file).metadata[b"completions_lp"])["spent"]
        for file in (place / "there" / "units").glob("*/*/*.parquet")
    ]
    assert sum(unit["sent"] for unit in spent) <= sum(entry["payload"] for entry in log)
    assert {entry["payload"] for entry in log} >= {unit["sent"] for unit in spent}
    assert {entry["result"] for entry in log} >= {unit["received"] for unit in spent}
    assert max(unit["sent"] for unit in spent) < 60_000
    assert max(unit["received"] for unit in spent) < 200_000
    for way in ("sent", "received"):
        steps = [info["work"][step][way] for step in ("sample", "choices", "score")]
        assert sum(steps) == sum(unit[way] for unit in spent)
        assert info["token_counts"]["score"][way] == steps[-1]
    assert info["model"]["device"] == "remote"
    assert info["stages"]["score"]["consumed"]["device"] == "remote"


def test_what_a_number_takes_is_a_few_bytes(chooser, far):
    """Of a node under a condition: log prob, two answers, two divergences. The table of the docs is made of this."""
    there, _, prompts, _, vector = chooser
    conditions = clp.make_conditions([vector], layers=range(5), multipliers=[-1.0, -0.5, 0.5, 1.0, 1.5, 2.0])
    completions = draw(there, prompts, sampling=Sampling(n=60, max_new_tokens=12))
    before = there.usage.received
    score_tokens(there, completions, [vector], conditions, target="matching", kl=True, progress=False)
    edges = len(
        {
            (i, *ids[: t + 1])
            for i, ids, n in zip(
                completions.prompt_index, completions.token_ids.tolist(), completions.lengths, strict=True
            )
            for t in range(n)
        }
    )
    assert (there.usage.received - before) / (edges * (1 + len(conditions))) < 14


def test_nothing_of_us_stays_on_the_server(far, chooser):
    there, _, prompts, *_ = chooser
    far.want()
    draw(there, prompts)
    (entry,) = far.log
    assert not [name for name in entry["left"] if "completions_lp" in name or "jaxtyping" in name]


def test_a_write_in_place_would_be_lost_and_is_seen(far, chooser, monkeypatch):
    """Steering that edits a copy steers nothing: the server hands out copies, and the numbers show it."""
    there, here, prompts, _, vector = chooser
    text = (Path(parcel.__file__).with_name("served.py")).read_text()
    wrong = text.replace(
        "blocks[layer].output = replace_stream(whole, grown)", "residual_stream(whole)[:] = grown[:n]"
    ).replace("branch=True", "branch=False")
    assert wrong != text
    read = parcel._read_source
    monkeypatch.setattr(parcel, "_read_source", lambda name: wrong if name.endswith("model.served") else read(name))
    parcel.pack.cache_clear()
    try:
        (condition,) = clp.make_conditions([vector], layers=[2], multipliers=[2.0])[-1:]
        options = {"vectors": [vector], "condition": condition}
        lost, right = draw(there, prompts, **options), draw(here, prompts, **options)
    finally:
        parcel.pack.cache_clear()
    unsteered = draw(here, prompts)
    assert lost.token_ids.shape != right.token_ids.shape or (lost.token_ids != right.token_ids).any()
    assert np.nanmean(lost.logprob) == pytest.approx(np.nanmean(unsteered.logprob), abs=0.5)


def test_a_connection_that_drops_is_tried_again(far, chooser):
    there, here, prompts, *_ = chooser
    told, waited = [], []
    there.server.tell, there.server.pause = told.append, waited.append
    far.want(drop=2)
    assert_same_draws(draw(there, prompts), draw(here, prompts))
    assert len(waited) == 2
    assert sum("again in" in line for line in told) == 2


def test_a_server_that_is_away_ends_in_one_line(chooser):
    there, _, prompts, *_ = chooser
    waited, host = [], there.server.host
    there.server.pause, there.server.host = waited.append, "http://127.0.0.1:9"
    try:
        with pytest.raises(InputError, match=r"^http://127.0.0.1:9: no answer after 6 attempts \(.*refused.*\)$"):
            draw(there, prompts)
    finally:
        there.server.host = host
    assert len(waited) == 5


def test_a_slow_queue_is_told(far, chooser):
    there, _, prompts, *_ = chooser
    told = []
    there.server.tell = told.append
    far.want(slow=0.3)
    draw(there, prompts)
    far.want()
    queued = [line for line in told if line.startswith("queued")]
    assert queued == [f"queued: place {k} in the queue" for k in (3, 2, 1)]
    assert told[-2:] == ["running", ""]


def test_words_of_a_server_move_no_cursor(far, chooser):
    there, _, prompts, *_ = chooser
    far.want(crash="so\x1b[2J it is")
    with pytest.raises(InputError, match=r"RuntimeError: so \[2J it is"):
        draw(there, prompts)


@pytest.mark.parametrize(
    ("code", "detail", "message"),
    [
        (400, "nnsight version is below the minimum 0.9.0.", r"refuses the request .*minimum 0.9.0.*here is 0\.8"),
        (401, "API key is missing", r"refuses the request \(.*API key is missing\)"),
    ],
    ids=["version", "key"],
)  # fmt: skip
def test_a_refusal_is_told_and_not_repeated(far, chooser, code, detail, message):
    there, _, prompts, *_ = chooser
    waited = []
    there.server.pause = waited.append
    far.want(refuse=[code, detail])
    with pytest.raises(InputError, match=message):
        draw(there, prompts)
    assert not waited


def test_a_busy_server_is_asked_again(far, chooser):
    there, _, prompts, *_ = chooser
    waited = []
    there.server.pause = waited.append
    far.want(refuse=[503, "no cluster"])
    draw(there, prompts)
    assert len(waited) == 1


def test_an_error_there_is_one_line_here(far, chooser):
    there, _, prompts, *_ = chooser
    far.want(crash="the roof is on fire")
    with pytest.raises(
        InputError, match=r"^http://[^ ]+: the request failed there \(RuntimeError: the roof is on fire\)$"
    ):
        draw(there, prompts)


def test_memory_that_runs_out_there_makes_smaller_requests(far, chooser):
    there, here, prompts, _, vector = chooser
    conditions = clp.make_conditions([vector], layers=[1], multipliers=[1.0])
    completions = draw(here, prompts)
    far.want(crash="CUDA out of memory. Tried to allocate 2 GiB")
    found = score_tokens(there, completions, [vector], conditions, memory_budget=0.5, progress=False)
    assert len(far.log) == 3  # the one that failed, and two halves
    expected = score_tokens(here, completions, [vector], conditions, progress=False)
    np.testing.assert_allclose(found.logprob, expected.logprob, atol=3e-5)


def test_logits_that_are_no_numbers_name_the_prompt(far, chooser):
    there, _, prompts, *_ = chooser
    huge = clp.SteeringVector("huge", "target", {2: np.full(there.d_model, 1e35)})
    (condition,) = clp.make_conditions([huge], layers=[2], multipliers=[1e6])[-1:]
    with pytest.raises(NotFinite, match="the model steered at layer 2 gives logits that are not finite") as caught:
        draw(there, prompts, vectors=[huge], condition=condition)
    assert caught.value.prompt_id in {prompt.id for prompt in prompts}


def test_a_model_that_is_not_there_is_named(far, folders, tmp_path, tokenizer):
    make_family("llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="is not deployed"):
        clp.load_model(tmp_path, remote=far.url)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"remote": "localhost"}, r"\[model\] remote is 'localhost'"),
        ({"remote": True, "dtype": "bfloat16"}, r"\[model\] dtype is the server's to decide"),
        ({"remote": True, "device": "cuda"}, r"\[model\] device is the server's to decide"),
    ],
)
def test_a_wrong_configuration_is_refused(values, message):
    from completions_lp.job.config import make_config

    with pytest.raises(InputError, match=message):
        make_config({"model": values})


def test_the_doctor_says_that_it_needs_the_weights(far):
    from completions_lp.job.checkup import examine
    from completions_lp.job.config import make_config

    with pytest.raises(InputError, match="the doctor watches residual streams, and this model's are on http"):
        examine(make_config({"model": {"remote": far.url}}))


def test_an_engine_of_here_is_none_of_a_server(chooser):
    there, here, prompts, *_ = chooser
    with pytest.raises(InputError, match="is on a server; leave it at auto"):
        draw(there, prompts, engine="tree")
    with pytest.raises(InputError, match="is here; leave it at auto"):
        draw(here, prompts, engine="server")


def test_numbers_travel_as_exactly_as_they_are_said_to():
    generator = torch.Generator().manual_seed(0)
    logprob = -30 * torch.rand(5, 7, generator=generator)
    logprob[2, 3], logprob[0, 1] = float("-inf"), float("nan")
    kl = torch.rand(5, 7, generator=generator) ** 8
    found = expand(squeeze({"logprob": logprob, "answers": logprob[..., None], "kl": kl, "entropy": kl[:1]}))
    torch.testing.assert_close(found["logprob"], logprob, atol=2**-19 + 2e-6, rtol=0, equal_nan=True)
    rare = logprob < -11
    near = torch.where(rare, 2**-9 + 4e-6, 2**-18 + 4e-6)
    off = (found["answers"][..., 0] - logprob).nan_to_num(nan=0.0)
    assert (off.abs() <= near)[logprob.isfinite()].all()
    assert 0 < rare.float().mean() < 1
    assert torch.equal(found["answers"][..., 0].isneginf(), logprob.isneginf())
    torch.testing.assert_close(found["kl"], kl, atol=0, rtol=2**-12)
    assert torch.equal(found["entropy"], kl[:1])
    whole = expand(squeeze({"logprob": logprob, "kl": kl}, whole=True))
    assert torch.equal(whole["logprob"].nan_to_num(), logprob.nan_to_num())
    assert torch.equal(whole["kl"], kl)
    again = expand(squeeze(found))
    assert all(torch.equal(again[name].nan_to_num(), found[name].nan_to_num()) for name in found)


@pytest.mark.parametrize(
    "function",
    [f"completions_lp.{name}" for name in ("model.served:score", "sample.served:grow", "steer.served:average")],
)
def test_what_is_sent_is_small_and_imports_what_is_there(function):
    sent = parcel.pack(function)
    assert sum(map(len, sent.texts.values())) < 250_000
    assert all(name.startswith("completions_lp_") for name in sent.texts)
    assert "completions_lp." not in sent.landing.replace("completions_lp_", "")
    with pytest.raises(TypeError, match="missing 3 required positional arguments"):  # so it is there, and runs
        landing.call(sent.texts, sent.function)


def test_a_module_that_needs_more_is_not_sent():
    with pytest.raises(ImportError, match=r"imports .*, which a model server need not have"):
        parcel.pack("completions_lp.model.remote:load_remote")


def test_sent_code_is_found_only_while_it_runs():
    name = "completions_lp_0123456789ab"
    texts = {
        f"{name}.one": f"from {name}.two import value\ndef give(x):\n    return x + value\n",
        f"{name}.two": "value = 2\n",
    }
    assert landing.call(texts, f"{name}.one:give", 3) == 5
    assert not [module for module in sys.modules if module.startswith(name)]
    assert remote.load_remote  # what is installed stays
