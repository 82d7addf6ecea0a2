"""The gallery: short scripts around the public names, each run on a small run of the embedded model."""

import ast
import csv
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import completions_lp
from completions_lp import cli
from completions_lp.job.config import load_config
from completions_lp.show.figures import GALLERY
from completions_lp.store.files import write_table

ROOT = Path(completions_lp.__file__).resolve().parent.parent
ANALYSIS = ROOT / "analysis"
pytestmark = pytest.mark.skipif(not ANALYSIS.is_dir(), reason="not a checkout")
OTHERS = {"convergence", "equal_kl", "own_page", "table"}
"""Scripts that are not of one figure of the gallery."""
SCRIPTS = sorted(OTHERS | set(GALLERY) - {"prompts_change"})
OTHERS_OF_RUN = (
    "scoring.readings=true",
    'rival=[{name="told", prepend="Be careful. "}]',
    f'off_target=[{{name="again", path="{load_config().prompts.path}", limit=6, n=6}}]',
)
"""What a run has that is drawn only where it is there."""
MODEL, PAIRS = "data/tiny-chooser", "data/pairs/cautious.jsonl"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small run of the embedded model."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    changes = ("prompts.limit=8", "sampling.n=12", "scoring.layers=[1,2]", "scoring.multipliers=[-1,1]", *OTHERS_OF_RUN)
    options = [option for change in changes for option in ("--set", change)]
    assert cli.main(["run", "--quiet", "--out", str(folder), *options]) == 0
    return folder


def run(name, *arguments, monkeypatch, here):
    """Run a script as it is run from the command line, in this process, and list what it wrote."""
    path = ANALYSIS / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    monkeypatch.chdir(here)
    runpy.run_path(str(path), run_name="__main__")
    return sorted(path.name for path in here.iterdir())


def read(name):
    return ast.parse((ANALYSIS / f"{name}.py").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_opens_with_what_it_shows_and_its_command(name):
    about = ast.get_docstring(read(name))
    assert f"python analysis/{name}.py RUN_DIR" in about
    assert re.match(r"[A-Z].{20,}[.:?]", about)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short_and_uses_public_names_alone(name):
    tree = read(name)
    imports = {node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
    lines = {
        node.lineno
        for stated in tree.body[1:]
        if stated not in imports
        for node in ast.walk(stated)
        if hasattr(node, "lineno")
    }
    assert 1 <= len(lines) <= 20
    ours = [ast.unparse(node) for node in imports if "completions_lp" in ast.unparse(node)]
    assert ours == ["import completions_lp as clp"]
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "clp"}
    assert used <= set(completions_lp.__all__)


@pytest.mark.parametrize("name", sorted(set(SCRIPTS) - OTHERS))
def test_a_script_writes_the_figure_with_its_table_and_caption(name, folder, tmp_path, monkeypatch, capsys):
    stems = [name, "prompts_change"] if name == "prompts" else [name]
    wanted = sorted(f"{stem}.{end}" for stem in stems for end in ("csv", "pdf", "png", "txt"))
    assert run(name, folder, monkeypatch=monkeypatch, here=tmp_path) == wanted
    report = completions_lp.load(folder)
    for stem in stems:
        with (tmp_path / f"{stem}.csv").open(encoding="utf-8") as file:
            assert len(list(csv.DictReader(file))) == len(GALLERY[stem](report).rows) > 0
        said = (tmp_path / f"{stem}.txt").read_text(encoding="utf-8")
        assert said == GALLERY[stem](report).caption + "\n"
    shown = capsys.readouterr().out
    assert said.strip() in shown or (name == "damage" and "layer 2" in shown)


def test_the_table_is_latex(folder, tmp_path, monkeypatch):
    assert run("table", folder, monkeypatch=monkeypatch, here=tmp_path) == ["table.tex"]
    assert (tmp_path / "table.tex").read_text(encoding="utf-8").count(r"\\") >= 4


def test_vectors_at_the_same_cost_have_a_figure_of_any_name(folder, tmp_path, monkeypatch):
    wanted = [f"mine.{end}" for end in ("csv", "pdf", "png", "txt")]
    assert run("equal_kl", folder, "mine", monkeypatch=monkeypatch, here=tmp_path) == wanted
    section = load_config(ANALYSIS / "equal_kl.toml")
    assert (section.scoring.unit, [v.method for v in section.vectors]) == ("kl", ["mean_difference", "pca"])


def test_several_figures_stand_on_a_page_of_ones_own(folder, tmp_path, monkeypatch):
    assert run("own_page", folder, monkeypatch=monkeypatch, here=tmp_path) == ["own_page.pdf"]


def test_diagnostics_draw_the_steered_draws_that_the_run_directory_has(folder, tmp_path, monkeypatch):
    row = {"prompt_id": ["p0"], "p_A_steered": [0.4], "share": [0.5], "low": [0.3], "high": [0.7], "trust": ["green"]}
    row |= {
        "vector": ["v"],
        "kind": ["target"],
        "layer": [1],
        "multiplier": [1.0],
        "positions": ["completion"],
        "cluster": ["p0"],
        "n": [50],
        "n_A": [25],
        "p_A_steered_se": [0.1],
        "p_A_steered_low": [0.1],
        "p_A_steered_high": [0.9],
    }
    write_table(folder / "validation.parquet", row)
    try:
        run("diagnostics", folder, monkeypatch=monkeypatch, here=tmp_path)
    finally:
        (folder / "validation.parquet").unlink()
    assert "its share among 1 sets of draws" in (tmp_path / "diagnostics.txt").read_text(encoding="utf-8")


def test_convergence_scores_a_vector_of_each_batch_of_pairs(folder, tmp_path, monkeypatch):
    pairs = tmp_path / "few.jsonl"
    lines = (ROOT / PAIRS).read_text(encoding="utf-8").splitlines(keepends=True)
    pairs.write_text("".join(lines[:20]), encoding="utf-8")
    here = tmp_path / "here"
    here.mkdir()
    run("convergence", folder, ROOT / MODEL, pairs, monkeypatch=monkeypatch, here=here)
    with (here / "convergence.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["n_pairs"] for row in rows] == ["5"] * 4 + ["10"] * 2
    assert all(0 < float(row["cosine_to_rest"]) < 1 for row in rows)
    assert {row["quantity"] for row in rows} == {"delta_p_A"}
    assert {int(row["layer"]) for row in rows} == {completions_lp.load(folder).best.condition.layer}


def test_the_figures_need_no_torch(folder):
    code = (
        "import sys, completions_lp as clp; "
        f"clp.LayerSweep.of(clp.load({str(folder)!r})).draw(); "
        "assert not {'torch', 'transformers', 'nnsight'} & set(sys.modules), 'a model library was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, capture_output=True)


def test_the_study_is_a_valid_configuration_with_every_control():
    config = load_config(ANALYSIS / "study.toml")
    assert config.controls.random_directions == config.controls.shuffled_labels == 19
    assert config.controls.negated
    assert (min(config.scoring.multipliers), max(config.scoring.multipliers)) == (-4, 4)


def test_reproducing_runs_every_script_with_files_that_are_there():
    text = (ANALYSIS / "reproduce.sh").read_text(encoding="utf-8")
    for name in SCRIPTS:
        assert re.search(rf"\b{name}\b", text), name
    for path in (MODEL, PAIRS):
        assert f"$root/{path}" in text
        assert (ROOT / path).exists()
    assert subprocess.run(["sh", "-n", str(ANALYSIS / "reproduce.sh")], check=False).returncode == 0


def test_the_table_of_a_gpu_is_filled(tmp_path):
    """On the CPU at toy sizes, which is the same but for the device's name."""
    place, out = tmp_path / "README.md", tmp_path / "out.json"
    place.write_text("# A\n<!-- gpu: begin -->\nold\n<!-- gpu: end -->\nbehind\n")
    command = ["--quick", "--models", "15M", "--fill", str(place), "--out", str(out)]
    subprocess.run(
        [sys.executable, str(ANALYSIS / "benchmark.py"), *command], cwd=ROOT, check=True, capture_output=True
    )
    text = place.read_text()
    assert text.startswith("# A\n<!-- gpu: begin -->\nMeasured on cpu in float32, ")
    assert text.endswith("|\n<!-- gpu: end -->\nbehind\n")
    assert "old" not in text
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| 15M")]
    assert [row[2].strip() for row in rows] == ["sampling", "grid", "both"]
    measured = [row for row in json.loads(out.read_text())["rows"] if row["who"] == "ours"]
    for row in rows:
        ours = next(one for one in measured if one["stage"] == row[2].strip())
        assert row[4].strip() == f"{ours['seconds']:.3g}"


def test_a_table_goes_between_its_marks_only(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ANALYSIS))
    from bench_readme import BEGIN, fill_readme

    assert BEGIN in (ANALYSIS / "README.md").read_text()
    place = tmp_path / "README.md"
    place.write_text(f"{BEGIN} and no end")
    with pytest.raises(SystemExit, match="between which the table goes"):
        fill_readme(place, {"device": "x", "dtype": "y", "date": "z", "torch": "1", "transformers": "2"}, [])
    assert place.read_text() == f"{BEGIN} and no end"
