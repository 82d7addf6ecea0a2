import dataclasses
import json
import re

import pydantic
import pytest

from completions_lp.job.config import (
    DATA,
    Config,
    VectorSection,
    format_defaults,
    load_config,
    make_config,
    make_schema,
)
from completions_lp.job.off_target import OffTargetSection
from completions_lp.job.rival import RivalSection
from completions_lp.job.toml import REPEATED
from completions_lp.records import InputError, Sampling

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
    assert (config.sampling.n, config.label.within, config.label.target) == (100, 10, "matching")
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
        ("sampling.n=many", r"^\[sampling\] n is 'many'; it must be an integer\. Draws per prompt; greedy decoding"),
        ("sampling.n=1.5", r"^\[sampling\] n is 1.5; it must be an integer\. "),
        ("sampling.n=3.0", r"^\[sampling\] n is 3.0; it must be an integer\. "),
        ("sampling.n=true", r"^\[sampling\] n is True; it must be an integer\. "),
        ("sampling.n=2026-10-20", r"^\[sampling\] n is '2026-10-20'; it must be an integer\. "),
        ("sampling.temperature=hot", r"^\[sampling\] temperature is 'hot'; it must be a number\. "),
        ("sampling.temperature=true", r"^\[sampling\] temperature is True; it must be a number\. "),
        ("sampling.greedy=1", r"^\[sampling\] greedy is 1; it must be true or false\. "),
        ("prompts.limit=few", r"^\[prompts\] limit is 'few'; it must be an integer\. "),
        ("prompts.letters=A", r"^\[prompts\] letters is 'A'; it must be a list\. Keep only prompts whose two answers "),
        ("scoring.layers=some", r"^\[scoring\] layers is 'some'; it must be 'all' or a list\. Layers at whose output "),
        (
            "scoring.layers=[1, 1.5, 2.5]",
            r"^\[scoring\] layers is \[1, 1.5, 2.5\]; it must be 'all' or a list \(each entry an integer\)\. ",
        ),
        ("scoring.positions=last", r"^\[scoring\] positions is 'last'; it must be \"completion\", \"all\", "),
        (
            "label.rule=word",
            r"^\[label\] rule is 'word'; it must be 'letter', 'token', 'substring', 'regex', 'final_answer' or 'pyth",
        ),
        ("vector.read_token=1.5", r"^\[vector\] read_token is 1.5; it must be text or an integer\. "),
        ("sampling.temperature=-1", "^temperature is -1.0; it must be above 0"),
        ("sampling.n=0", "^sampling n is 0; at least 1"),
        ("label.within=0", "^label within is 0"),
        ("label.rule=regex", '^label rule = "regex" needs a pattern'),
        ("label.pattern={letter}", "^label pattern goes with rule"),
        ("label.within=any", r"^\[label\] within is 'any'; it must be an integer or 'all'\. Only so many tokens"),
        ("label.patterns=x", r"^\[label\] patterns is 'x'; it must be "),
        ("label.function=no.colon", "^label function goes with rule"),
        ("scoring.multipliers=[]", r"^\[scoring\] multipliers is \[\]; it must be a list of at least one\. "),
        (
            "scoring.multipliers=[1, nan]",
            r"^\[scoring\] multipliers is \[1, nan\]; it must be a list \(each entry a finite number\)\. ",
        ),
        ("scoring.multipliers=[inf]", r"multipliers is \[inf\]; it must be a list \(each entry a finite number\)\. "),
        ("scoring.layers=[]", r"^\[scoring\] layers is \[\]; it must be 'all' or a list of at least one\. "),
        ("vector.layers=[]", r"^\[vector\] layers is \[\]; it must be 'all' or a list of at least one\. "),
        ("prompts.limit=0", r"^\[prompts\] limit is 0; it must be greater than or equal to 1\. "),
        (
            "controls.random_directions=-1",
            r"^\[controls\] random_directions is -1; it must be greater than or equal to 0\. ",
        ),
        (
            "controls.shuffled_labels=-1",
            r"^\[controls\] shuffled_labels is -1; it must be greater than or equal to 0\. ",
        ),
        (
            "controls.orthogonal_to=v.safetensors",
            r"^\[controls\] orthogonal_to is 'v.safetensors'; it must be a list\. Vector files; ",
        ),
        (
            "controls.orthogonal_to=[1]",
            r"^\[controls\] orthogonal_to is \[1\]; it must be a list \(each entry text\)\. ",
        ),
        ("scoring.kl=1", r"^\[scoring\] kl is 1; it must be true or false\. "),
        ("sampling.top_up=-1", r"^top_up is -1; it must be at least 0 \(0 turns it off\)$"),
        ("sampling.top_up=2.5", r"^\[sampling\] top_up is 2.5; it must be an integer\. "),
        ("run.memory_budget=0", r"^\[run\] memory_budget is 0; it must be greater than 0\. GiB that a pass may take; "),
        ("run.workers=0", r"^\[run\] workers is 0; it must be greater than or equal to 1\. Processes that do the work"),
        ("model.remote=localhost", r"^\[model\] remote is 'localhost'; .* the model runs on NDIF"),
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
        (
            "[controls]\northogonal_to = [1]",
            r"^\[controls\] orthogonal_to is \[1\]; it must be a list \(each entry text\)\. ",
        ),
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
    with pytest.raises(InputError, match=r"config\.toml: not UTF-8 text \(byte 0\)$"):
        load_config(path)


def test_a_configuration_survives_json(tmp_path):
    config = load_config(write(tmp_path))
    assert config != Config()
    assert make_config(json.loads(json.dumps(config.model_dump()))) == config
    assert make_config(json.loads(json.dumps(Config().model_dump()))) == Config()


def test_a_stored_configuration_takes_overrides_and_stays_itself(tmp_path):
    stored = load_config(write(tmp_path)).model_dump()
    changed = load_config(None, ["sampling.n=9"], base=stored)
    assert changed.sampling == dataclasses.replace(make_config(stored).sampling, n=9)
    assert changed.model_copy(update={"sampling": make_config(stored).sampling}) == make_config(stored)
    assert stored["sampling"]["n"] == 7


def test_a_configuration_cannot_be_changed():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Config().model.name = "other"


def test_records_and_paths_serve_as_values(tmp_path):
    config = make_config({"sampling": Sampling(n=3), "prompts": {"path": tmp_path / "asked.jsonl"}})
    assert config.sampling == Sampling(n=3)
    assert config.prompts.path == str(tmp_path / "asked.jsonl")


def list_sections():
    """Every section's keys with their defaults, also of those that may stand several times."""
    repeated = {"rival": RivalSection(), "off_target": OffTargetSection(), "further": VectorSection()}
    return {**Config().model_dump(), **{name: section.model_dump() for name, section in repeated.items()}}


def test_the_commented_defaults_read_back_as_the_defaults(tmp_path):
    text = format_defaults()
    assert load_config(write(tmp_path, text)) == Config()
    for section, values in list_sections().items():
        part = re.split(rf"\n(?:# )?\[+{section}\]+\n", text)[1].split("\n[")[0]
        for key, value in values.items():
            found = re.search(rf"^# \S.*\n(# )?{key} = .*$", part, re.MULTILINE)  # a key, and what it means above it
            assert found, key
            assert (found[1] is None) == (value is not None and section not in REPEATED), key
    changed = text.replace("\nn = 100\n", "\nn = 7\n").replace("# limit = null", "limit = 2", 1)
    config = load_config(write(tmp_path, changed))
    assert (config.sampling.n, config.prompts.limit) == (7, 2)  # the text is what is read


def test_the_schema_describes_every_key_and_knows_no_others():
    schema = make_schema()
    assert schema["additionalProperties"] is False
    for name, values in list_sections().items():
        told = schema["properties"][name]
        section = schema["$defs"][told.get("items", told)["$ref"].removeprefix("#/$defs/")]
        assert section["additionalProperties"] is False
        assert list(section["properties"]) == list(values)
        for key, property_ in section["properties"].items():
            assert property_["description"], key
            assert property_["default"] == json.loads(json.dumps(values[key]))
    sampling, prompts = schema["$defs"]["Sampling"]["properties"], schema["$defs"]["PromptsSection"]["properties"]
    assert sampling["n"]["type"] == "integer"
    assert {"minimum": 1, "maximum": 10_000_000, "type": "integer"} in prompts["limit"]["anyOf"]
    json.dumps(schema, allow_nan=False)


def test_what_is_wrong_first_is_told_of_several_things():
    with pytest.raises(InputError) as told:
        make_config({"scoring": {"kl": 1}, "sampling": {"n": "x"}, "label": {"within": 0}})
    assert str(told.value).startswith("[sampling] n is 'x'; it must be an integer. ")
