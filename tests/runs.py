"""Small runs on a tiny random model, and what they stand on: the keys of their units, and what their stages record."""

import json

import pyarrow.parquet
from conftest import make_module
from test_prompts import ROW, write

from completions_lp.job.config import make_config
from completions_lp.job.ledger import Options
from completions_lp.job.stages import Run
from completions_lp.store import hash_value

WORDS = ("Is it", "Or", "What now", "I", "So", "Yes")
TABLES = ("questions", "completions", "scores", "measures", "profile", "choices", "tokens")


def make_place(folder, tokenizer):
    """A model, six prompts and six pairs in a folder; returns the configuration of a small run of them."""
    make_module("llama", num_hidden_layers=2).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [{**ROW, "question": f"{word}?\n (A) x\n (B) y", "id": f"id-{word}"} for word in WORDS]
    write(folder, rows)
    write(folder, [{**row, "question": f"{row['question']}!"} for row in rows], "pairs.jsonl")
    return {
        "model": {"name": str(folder / "model")},
        "prompts": {"path": str(folder / "asked.jsonl"), "limit": 4},
        "vector": {"pairs": str(folder / "pairs.jsonl")},
        "sampling": {"n": 10, "max_new_tokens": 3, "top_up": 6},
        "label": {"rule": "substring"},
        "scoring": {"layers": [0], "multipliers": [-1.0, 1.0]},
        "controls": {"random_directions": 1},
    }


def change(config, changes):
    """A configuration with some values, ``section.key`` by value, in place of its own."""
    changed = {name: dict(section) for name, section in config.items()}
    for name, value in changes.items():
        section, _, key = name.partition(".")
        changed.setdefault(section, {})[key] = value
    return changed


def do_stages(config, folder, **options):
    """The stages that compute; their tables are in the folder then."""
    run = Run(make_config(config), folder, options=Options(progress=False, **options))
    vectors, completions = run.vector(), run.sample()
    run.score(completions, vectors)
    return run


def list_keys(folder):
    """What a run's units stand on: by kind, each number's context and item, and the condition or the sample."""
    found = {"draws": set(), "steered": set(), "scores": set(), "choices": set()}
    for path in (folder / "units").glob("*/*/*.parquet"):
        said = json.loads(pyarrow.parquet.read_schema(path).metadata[b"completions_lp"])
        kind, context, covers = said["kind"], said["context"], said["covers"]
        names = covers["conditions"] if kind != "draws" else range(*covers["samples"])
        kind = "steered" if kind == "draws" and context["condition"] else kind
        found[kind] |= {(hash_value(context), item, name) for item in covers["items"] for name in names}
    return found


def read_info(folder):
    return json.loads((folder / "run.json").read_text())


def list_recorded(folder):
    """What every stage has followed and consumed."""
    return {name: (stage["settings"], stage["consumed"]) for name, stage in read_info(folder)["stages"].items()}


def compare(before, after):
    """How one run's keys and records differ from another's: ``all`` of a kind's are new, or ``some`` came or went."""
    told = {}
    for kind, now in list_keys(after).items():
        then = list_keys(before)[kind]
        if now != then:
            told[kind] = "some" if now & then else "all"
    one, two = list_recorded(before), list_recorded(after)
    return told, {stage for stage in one if one[stage] != two[stage]}


def sum_work(folder, *, of=("vector", "sample", "choices", "score")):
    """What was done the last time, by the run's own counts."""
    work = [spent for name, spent in read_info(folder)["work"].items() if name in of]
    return {key: sum(spent[key] for spent in work) for key in ("tokens", "passes", "units_made", "units_found")}
