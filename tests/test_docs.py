"""The documentation says what is there: sections that the code cites, columns that a run writes, examples that run."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prose import ROOT, find_blocks, lay_out

import completions_lp as clp
from completions_lp.job.config import load_config
from completions_lp.job.stages import Options, Run

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS) for path in DOCS.rglob("*.md"))
NUMBERS = (DOCS / "numbers.md").read_text(encoding="utf-8")
SETTINGS = (
    *("sampling.n=15", "sampling.max_new_tokens=12", "sampling.top_up=5", "prompts.limit=8", "prompts.swap=true"),
    "sampling.seeds=[0,1]",
    *("scoring.layers=[2,4]", "scoring.multipliers=[-1,1]", "label.target='matching'"),
    "scoring.readings=true",
)
"""A small job that still has red cells at layer 4, so that steered draws join."""
CITED = re.compile(r"numbers\.md(?!\")((?:,?\s+(?:§\d+(?:\.\d+)?[a-i]?|[IPO]\d+)\b)*)")
SECTION = re.compile(r"§\d+(?:\.\d+)?[a-i]?|\b[IPO]\d+\b")
HEADING = re.compile(r"^#+ (§\d+(?:\.\d+)?[a-i]?|[IPO]\d+)\s", re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A place with everything that the examples name: prompts, pairs, a configuration, and a run."""
    place = lay_out(tmp_path_factory.mktemp("docs"), rows=24)
    run = place / "runs" / "mine"
    path = load_config().prompts.path
    others = [
        'rival=[{name="told", prepend="Be careful. "}]',
        'further=[{name="last", read_token="last"}]',
        f'off_target=[{{name="again", path="{path}", limit=2, n=2}}]',
    ]
    Run(load_config(None, [*SETTINGS, *others]), run, options=Options(tokens=True, progress=False)).all()
    Run.open(run, options=Options(progress=False)).validate(draws=2)
    return place


def load_script(name):
    sys.path.insert(0, str(DOCS))
    try:
        spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(DOCS))


def name_kind(field):
    kinds = {"string": "text", "bool": "true or false", "float": "number", "double": "number"}
    kind = str(field.type)
    return kinds.get(kind) or ("list" if kind.startswith("list") else "whole number")


def test_the_dictionary_is_what_its_script_writes():
    dictionary = load_script("dictionary")
    assert (DOCS / "dictionary.md").read_text(encoding="utf-8") == dictionary.write_page(), "python docs/dictionary.py"


def test_every_column_that_a_run_writes_is_documented_and_no_other(folder):
    tables = {table.file: table.columns for table in load_script("dictionary").describe_tables()}
    run = folder / "runs" / "mine"
    written = {path.name: pq.read_schema(path) for path in run.glob("*.parquet")}
    assert set(written) == set(tables)
    for file, schema in written.items():
        assert {field.name: name_kind(field) for field in schema} == {n: c.kind for n, c in tables[file].items()}, file
    page = (DOCS / "dictionary.md").read_text(encoding="utf-8")
    info = json.loads((run / "run.json").read_text())
    of_stages = {name for stage in info["stages"].values() for name in stage}
    for name in (*info, *info["checks"], *of_stages):
        assert f"`{name}`" in page, name
    for path in run.iterdir():
        assert path.stem in page, path


def test_every_column_of_a_unit_is_documented_and_no_other(folder):
    tables = {table.file: table.columns for table in load_script("dictionary").describe_units()}
    run = folder / "runs" / "mine"
    kinds = {f"units/{path.name}": sorted(path.rglob("*.parquet")) for path in (run / "units").iterdir()}
    assert set(kinds) == set(tables)
    for kind, paths in kinds.items():
        for schema in map(pq.read_schema, paths):
            some = {name: c.kind for name, c in tables[kind].items() if name in schema.names}
            assert {field.name: name_kind(field) for field in schema} == some, kind
        assert set(tables[kind]) == {name for path in paths for name in pq.read_schema(path).names}, kind


def list_citations():
    for folder in ("completions_lp", "analysis", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path != Path(__file__):
                for found in CITED.finditer(path.read_text(encoding="utf-8")):
                    yield path, found


def test_every_section_that_the_code_cites_is_there():
    sections = set(HEADING.findall(NUMBERS))
    cited = list(list_citations())
    for path, found in cited:
        names = SECTION.findall(found[1])
        assert names, f"{path}: a citation without a section: {found[0]!r}"
        assert set(names) <= sections, f"{path}: {set(names) - sections}"
    assert len({name for _, found in cited for name in SECTION.findall(found[1])}) > 15


def test_no_code_cites_a_file_that_a_reader_does_not_have():
    for path in (ROOT / "completions_lp").rglob("*.py"):
        assert "STATISTICS" not in path.read_text(encoding="utf-8"), path


def test_sections_can_be_linked_to_by_their_names():
    for name in HEADING.findall(NUMBERS):
        anchor = name.lower().replace("§", "s").replace(".", "-")
        assert f"({anchor})=\n" in NUMBERS, name


@pytest.mark.parametrize("page", [p for p in PAGES if find_blocks(DOCS / p, "python")], ids=str)
def test_the_examples_run(page, folder, monkeypatch):
    monkeypatch.chdir(folder)
    scope = {}
    for code in find_blocks(DOCS / page, "python", small=True):
        exec(compile(code, str(page), "exec"), scope)  # noqa: S102  our own pages


@pytest.mark.parametrize("page", [p for p in PAGES if find_blocks(DOCS / p, "toml")], ids=str)
def test_the_configurations_are_valid(page, folder):
    for number, text in enumerate(find_blocks(DOCS / page, "toml")):
        path = folder / f"{page.stem}-{number}.toml"
        path.write_text(text, encoding="utf-8")
        assert load_config(path)


def test_the_commands_are_there_with_their_options():
    texts = [block for page in PAGES for block in find_blocks(DOCS / page, "sh")]
    joined = (text.replace("\\\n", " ") for text in texts)
    lines = [line for text in joined for line in text.splitlines() if line.startswith("completions-lp ")]
    assert len(lines) > 10
    helps = {}
    for words in (shlex.split(line, comments=True)[1:] for line in lines):
        name = " ".join(words[: 2 if words[0] == "vectors" else 1])
        if name not in helps:
            command = [sys.executable, "-m", "completions_lp", *name.split(), "--help"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=plain())
            helps[name] = done.stdout
        for option in (word for word in words if word.startswith("--")):
            assert option in helps[name], " ".join(words)


def plain():
    """An environment in which help is neither coloured nor cut."""
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb", "PYTHONPATH": str(ROOT)}


def test_the_reference_has_every_public_name():
    pytest.importorskip("sphinx")
    listed = {path.rpartition(".")[2] for _, path in load_script("conf").find_names()}
    values = {name: getattr(clp, name) for name in clp.__all__}
    assert {name for name, value in values.items() if callable(value)} <= listed


def test_pages_need_nothing_from_elsewhere():
    for page in PAGES:
        text = (DOCS / page).read_text(encoding="utf-8")
        assert not re.search(r"!\[[^]]*\]\(https?:|<(script|link|img|iframe)\b", text), page
