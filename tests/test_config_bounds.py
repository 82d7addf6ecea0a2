"""A configuration that asks for what no machine has, or is none at all, is refused in one line, at once."""

import os

import pytest

from completions_lp.job.config import load_config, make_config
from completions_lp.job.places import check_files, open_run
from completions_lp.records import InputError

DEEP = "[" * 1000 + "]" * 1000


def refuse(message, *arguments, **options):
    with pytest.raises(InputError) as caught:
        load_config(*arguments, **options)
    assert message in str(caught.value), str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) <= 2000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"a = {DEEP}", "not a TOML file that can be read: nested too deeply"),
        (f"sampling.n = {'1' * 5000}", "not a TOML file: Exceeds the limit (4300 digits)"),
        (f"sampling.n = 0x{'f' * 5000}", "sampling.n is an integer of more than 64 bits"),
        (f"sampling.n = {[[[[[[[[[[1]]]]]]]]]]}", "sampling.n is nested more than 8 deep"),
        ("a\0b", "not UTF-8 text: it has NUL characters"),
        (b"\xff\xfea", "not UTF-8 text (byte 0)"),
        ('prompts.path = "a\\u0000.jsonl"', "a\\x00.jsonl': NUL and halves of surrogate pairs are no text"),
        ('"a\\u0000b" = 1', "key 'a\\x00b' is 'a\\x00b': NUL and"),
        (f"label.rule = 'regex'\nlabel.pattern = '{{letter}}{'(' * 2000}{')' * 2000}'", "label pattern '{letter}((("),
        ("label.rule = 'regex'\nlabel.pattern = '{letter}a{99999999999}'", "the repetition number is too large"),
        (b"#" * (2**20 + 1), "has 1048577 bytes; at most 1048576 are read"),
    ],
)
def test_a_hostile_file_is_refused(tmp_path, content, message):
    path = tmp_path / "x.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refuse(message, path)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")  # which nothing ever writes to
    refuse("is no regular file; a file is needed", tmp_path / "pipe.toml")
    refuse("is a folder; a file is needed", tmp_path)
    refuse("no such file", tmp_path / "none.toml")
    refuse("cannot be read: File name too long", tmp_path / ("x" * 300))
    refuse("cannot be read: ", "a\0b.toml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampling.n=1000001", "sampling n is 1000001; at most 1000000 are drawn"),
        ("sampling.top_up=1000001", "sampling top_up is 1000001; at most 1000000 are drawn"),
        ("sampling.max_new_tokens=1000001", "100 x 1000001; the product is at most 100000000"),
        ("sampling.seed=9223372036854775808", "sampling.seed is an integer of more than 64 bits"),
        ("sampling.top_k=2147483648", "top_k is 2147483648; it must be below 2147483648"),
        ("sampling.temperature=1e-300", "temperature is 1e-300; it must be from 0.0001 to 10000"),
        ("sampling.temperature=1e300", "temperature is 1e+300; it must be from 0.0001 to 10000"),
        ("label.within=1000001", "label within is 1000001; it must be at most 1000000"),
        ("prompts.limit=10000001", "limit is 10000001; it must be less than or equal to 10000000"),
        ("controls.random_directions=10001", "random_directions is 10001; it must be less than or equal to 10000"),
        ("controls.shuffled_labels=10001", "shuffled_labels is 10001; it must be less than or equal to 10000"),
        ("run.memory_budget=inf", "memory_budget is inf; it must be less than or equal to 1000000"),
        ("run.memory_budget=nan", "memory_budget is nan; it must be "),
        ("scoring.multipliers=[1e308]", "multipliers is [1e+308]; it must be a list (each entry less than or equal"),
        ("scoring.multipliers=[-1e7]", "multipliers is [-10000000.0]; it must be a list (each entry greater than or"),
        ("scoring.layers=[-1]", "layers is [-1]; it must be 'all' or a list (each entry greater than or equal to 0)"),
        ("scoring.layers=[10000]", "layers is [10000]; it must be 'all' or a list (each entry less than 10000)"),
        ("vector.read_token=-1000001", "read_token is -1000001; it must be text or greater than or equal to -1000000"),
        (f"scoring.multipliers=[{'1.0,' * 10_001}]", "multipliers is [1.0, "),
        (f"sampling.n={DEEP}", "--set sampling.n: nested too deeply"),
        (f"sampling.n={'9' * 5000}", "n is '999"),
        ("sampling.n=1\nz=2", "n is '1\\nz=2'; it must be an integer"),
        ("model.name=\ud800", "model.name is '\\ud800': NUL and halves of surrogate pairs are no text"),
        ("controls.orthogonal_to=['a\0']", "controls.orthogonal_to is ['a\\x00']; it must be a list"),
        (f"{'x' * 100_000}.n=1", "unknown section: 'xxx"),
    ],
)
def test_what_is_beyond_a_bound_is_refused_with_the_bound(override, message):
    if "orthogonal" in override:  # TOML has no raw NUL, so that this is text
        message = "controls.orthogonal_to is"
    refuse(message, None, [override])


def test_the_bounds_themselves_are_allowed():
    assert load_config(None, ["sampling.n=1000000"]).sampling.n == 1_000_000
    assert load_config(None, ["sampling.seed=9223372036854775807"]).sampling.seed == 2**63 - 1
    assert load_config(None, ["scoring.multipliers=[1e6, -1e6]"]).scoring.multipliers == (1e6, -1e6)
    assert make_config({"scoring": {"layers": [0, 9999]}, "run": {"memory_budget": 1e6}}).run.memory_budget == 1e6


@pytest.mark.parametrize("name", ["~nobody-x/a.jsonl", "x" * 5000, "$HOME", "../x.jsonl"])
def test_a_strange_path_is_no_trace(tmp_path, name):
    path = tmp_path / "x.toml"
    path.write_text(f"[prompts]\npath = '{name}'\n", encoding="utf-8")
    config = load_config(path)
    assert config.prompts.path == (name if name[0] in "x$" else os.path.realpath(tmp_path / name))
    if name[0] not in "x$":
        with pytest.raises(InputError, match="no such file"):
            check_files(config, "sample")


def test_what_is_no_run_directory_is_refused(tmp_path):
    for name in ("x" * 300, "a\0b"):
        with pytest.raises(InputError) as caught:
            open_run(None, tmp_path / name, [])
        assert "cannot be made a run directory" in str(caught.value)
