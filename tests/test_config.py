import dataclasses
import json

import pytest

from completions_lp.records import InputError
from completions_lp.run.config import DATA, Config, dump_config, load_config, make_config

FILE = """
[model]
name = "some/model"
dtype = "float64"

[prompts]
path = "asked.jsonl"
letters = ["A", "B"]
limit = 5

[vector]
pairs = "sub/pairs.csv"
read_token = -2
layers = [1, 2]

[sampling]
n = 7
temperature = 1
top_up = 25

[label]
rule = "regex"
pattern = "answer is {letter}"
target = "matching"

[scoring]
kl = false
layers = [2]
multipliers = [1, -0.5]
positions = "all"

[controls]
negated = true
orthogonal_to = ["sub/length.safetensors", "../shared/tone.safetensors"]

[run]
memory_budget = 2
"""


def write(tmp_path, text=FILE):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_a_file_is_read_and_what_it_does_not_say_is_the_default(tmp_path):
    config = load_config(write(tmp_path))
    assert (config.model.name, config.model.dtype, config.model.device) == ("some/model", "float64", "auto")
    assert (config.prompts.letters, config.prompts.limit, config.prompts.split) == (("A", "B"), 5, "train")
    assert (config.vector.read_token, config.vector.layers) == (-2, (1, 2))
    assert (config.sampling.n, config.sampling.temperature, config.sampling.top_p) == (7, 1.0, 1.0)
    assert (config.labelling.rule, config.labelling.pattern) == ("regex", "answer is {letter}")
    assert (config.scoring.layers, config.scoring.multipliers) == ((2,), (1.0, -0.5))
    assert (config.controls.negated, config.controls.random_directions) == (True, 0)
    assert config.run.memory_budget == 2.0
    assert (config.scoring.kl, config.sampling.top_up) == (False, 25)
    assert isinstance(config.sampling.temperature, float)


def test_without_a_file_it_is_the_embedded_model():
    config = load_config()
    assert config == Config()
    assert config.model.name == str(DATA / "tiny-chooser")
    assert config.prompts.path == str(DATA / "prompts" / "cautious.jsonl")
    assert config.vector.pairs == str(DATA / "pairs" / "cautious.jsonl")
    assert (config.sampling.n, config.label.within, config.label.target) == (100, 10, "A")
    assert config.scoring.multipliers == (-2.0, -1.0, 1.0, 2.0)
    assert (config.scoring.kl, config.sampling.top_up, config.controls.orthogonal_to) == (True, 0, ())


def test_paths_in_a_file_are_relative_to_it(tmp_path, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    text = FILE.replace("some/model", "models/mine").replace("[vector]\n", '[vector]\npath = "v.safetensors"\n')
    config = load_config(write(tmp_path, text))
    assert config.model.name == str(tmp_path / "models" / "mine")
    assert config.prompts.path == str(tmp_path / "asked.jsonl")
    assert config.vector.pairs == str(tmp_path / "sub" / "pairs.csv")
    assert config.vector.path == str(tmp_path / "v.safetensors")
    others = (tmp_path / "sub" / "length.safetensors", tmp_path.parent / "shared" / "tone.safetensors")
    assert config.controls.orthogonal_to == tuple(map(str, others))
    up = load_config(write(tmp_path, '[model]\nname = "../no-such-model"'))
    assert up.model.name == str(tmp_path.parent / "no-such-model")
    hub = load_config(write(tmp_path, '[prompts]\npath = "owner/data-set"'))
    assert hub.prompts.path == "owner/data-set"


def test_overrides_beat_the_file(tmp_path):
    overrides = [
        "sampling.n=3",
        "sampling.greedy=true",
        "scoring.layers=[1, 2]",
        "label.target=B",
        'label.pattern="={letter}"',
        "model.name=other/model",
        "sampling.n=4",
        "prompts.template={question}=",
        "prompts.path=here.jsonl",
        "vector.read_token=last",
        "sampling.top_up=0",
        "scoring.kl=true",
        "controls.orthogonal_to=['here.safetensors']",
    ]
    config = load_config(write(tmp_path), overrides)
    assert (config.sampling.n, config.sampling.greedy, config.scoring.layers) == (4, True, (1, 2))
    assert (config.label.target, config.label.pattern, config.model.name) == ("B", "={letter}", "other/model")
    assert (config.prompts.template, config.prompts.path) == ("{question}=", "here.jsonl")
    assert config.vector.read_token == "last"
    assert config.prompts.limit == 5
    assert (config.scoring.kl, config.controls.orthogonal_to) == (True, ("here.safetensors",))


@pytest.mark.parametrize("override", ["n=3", "sampling", "sampling.n", ".n=3", "sampling.=3"])
def test_an_override_must_name_a_key(override):
    with pytest.raises(InputError, match=r"write section\.key=value, for example --set sampling\.n=50"):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "sampling.temprature=1",
            r"^unknown key of \[sampling\]: 'temprature'; the nearest is 'temperature'. Known: n, ",
        ),
        ("scoring.layer=[1]", r"^unknown key of \[scoring\]: 'layer'; the nearest is 'layers'"),
        ("samplng.n=1", "^unknown section: 'samplng'; the nearest is 'sampling'. Known: model, prompts, "),
        ("sampling.n=many", r"^\[sampling\] n is 'many'; it needs an integer$"),
        ("sampling.n=1.5", r"^\[sampling\] n is 1.5; it needs an integer$"),
        ("sampling.n=true", r"^\[sampling\] n is True; it needs an integer$"),
        ("sampling.temperature=hot", r"^\[sampling\] temperature is 'hot'; it needs a number$"),
        ("sampling.temperature=true", r"^\[sampling\] temperature is True; it needs a number$"),
        ("sampling.greedy=1", r"^\[sampling\] greedy is 1; it needs true or false$"),
        ("prompts.limit=few", r"^\[prompts\] limit is 'few'; it needs an integer or nothing$"),
        ("prompts.letters=A", r"^\[prompts\] letters is 'A'; it needs a list of texts$"),
        ("scoring.layers=some", r"^\[scoring\] layers is 'some'; it needs 'all' or a list of integers$"),
        ("scoring.layers=[1, 1.5]", r"^\[scoring\] layers is \[1, 1.5\]; it needs 'all' or a list"),
        ("scoring.positions=prompt", r"^\[scoring\] positions is 'prompt'; it needs 'completion' or 'all'$"),
        ("label.rule=word", r"^\[label\] rule is 'word'; it needs 'letter' or 'token' or 'substring' or 'regex'$"),
        ("vector.read_token=1.5", r"^\[vector\] read_token is 1.5; it needs text or an integer$"),
        ("sampling.temperature=-1", "^temperature is -1.0; it must be above 0"),
        ("sampling.n=0", "^sampling n is 0; at least 1"),
        ("label.within=0", "^label within is 0"),
        ("label.rule=regex", "^label pattern goes with rule"),
        ("scoring.multipliers=[]", r"^\[scoring\] multipliers is empty; at least one is needed$"),
        ("scoring.multipliers=[1, nan]", r"^\[scoring\] multipliers is \[1.0, nan\]; all must be finite numbers$"),
        ("scoring.multipliers=[inf]", r"multipliers is \[inf\]; all must be finite"),
        ("scoring.layers=[]", r'^\[scoring\] layers is empty; give a list of layers, or "all"$'),
        ("vector.layers=[]", r'^\[vector\] layers is empty; give a list of layers, or "all"$'),
        ("prompts.limit=0", r"^\[prompts\] limit is 0; at least 1 is needed$"),
        ("controls.random_directions=-1", r"^\[controls\] random_directions and shuffled_labels count vectors"),
        ("controls.shuffled_labels=-1", r"^\[controls\] random_directions and shuffled_labels count vectors"),
        (
            "controls.orthogonal_to=v.safetensors",
            r"^\[controls\] orthogonal_to is 'v.safetensors'; it needs a list of t",
        ),
        ("controls.orthogonal_to=[1]", r"^\[controls\] orthogonal_to is \[1\]; it needs a list of texts$"),
        ("scoring.kl=1", r"^\[scoring\] kl is 1; it needs true or false$"),
        ("sampling.top_up=-1", r"^top_up is -1; it must be at least 0 \(0 turns it off\)$"),
        ("sampling.top_up=2.5", r"^\[sampling\] top_up is 2.5; it needs an integer$"),
        ("run.memory_budget=0", r"^\[run\] memory_budget is 0.0 GiB; it must be above 0$"),
        ("run.workers=2", r"^\[run\] workers is 2; this version runs in one process: leave it at 1$"),
        ("model.remote=true", r"^\[model\] remote = true: this version runs models on this machine only"),
    ],
)
def test_a_wrong_value_says_what_is_needed(override, message):
    with pytest.raises(InputError, match=message):
        load_config(None, [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["vector.path=v.safetensors", "controls.shuffled_labels=2"], "shuffled_labels needs contrast pairs"),
        (["sampling.top_up=5", "sampling.temperature=0.7"], "^top_up is 5: draws of the steered model are pooled with"),
        (
            ["sampling.top_up=5", "sampling.top_p=0.9"],
            "leave temperature, top_p and top_k at 1, 1 and 0",
        ),
        (["sampling.top_up=5", "sampling.top_k=40"], "or top_up at 0$"),
        (["sampling.top_up=5", "sampling.greedy=true"], "^top_up is 5"),
        (
            ["vector.layers=[1, 2]", "scoring.layers=[2, 3]"],
            r"^\[scoring\] layers has layer 3, for which no vector is made: \[vector\] layers is \[1, 2\]$",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_told(overrides, message):
    for override in overrides:
        load_config(None, [override])  # each alone is fine
    with pytest.raises(InputError, match=message):
        load_config(None, overrides)


def test_a_finished_vectors_layers_are_its_own():
    config = load_config(None, ["vector.path=v.safetensors", "vector.layers=[1]", "scoring.layers=[2]"])
    assert config.scoring.layers == (2,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model\n", "config.toml: not a TOML file: .*line 1"),
        ("model = 3", r"^\[model\] must be a section with keys, got 3$"),
        ("[[prompts]]\npath = 'x'", r"^\[prompts\] must be a section with keys, got \[\{"),
        ("[controls]\northogonal_to = [1]", r"^\[controls\] orthogonal_to is \[1\]; it needs a list of texts$"),
        ("[modle]\nname = 'x'", "^unknown section: 'modle'; the nearest is 'model'"),
    ],
)
def test_a_malformed_file_says_what_is_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.toml: no such file$"):
        load_config(tmp_path / "nowhere.toml")


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"config\.toml: not a TOML file"):
        load_config(path)


def test_a_configuration_survives_json(tmp_path):
    config = load_config(write(tmp_path))
    assert config != Config()
    assert make_config(json.loads(json.dumps(dump_config(config)))) == config
    assert make_config(json.loads(json.dumps(dump_config(Config())))) == Config()


def test_a_stored_configuration_takes_overrides_and_stays_itself(tmp_path):
    stored = dump_config(load_config(write(tmp_path)))
    changed = load_config(None, ["sampling.n=9"], base=stored)
    assert changed == dataclasses.replace(
        make_config(stored), sampling=dataclasses.replace(make_config(stored).sampling, n=9)
    )
    assert stored["sampling"]["n"] == 7
