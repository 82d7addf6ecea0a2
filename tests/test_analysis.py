"""The scripts of the figures: each says how it is run, and writes a figure with its table and its caption."""

import ast
import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import make_study

import completions_lp
from completions_lp.job.config import load_config
from completions_lp.show.figures import GALLERY, tabulate
from completions_lp.store.files import write_table

ANALYSIS = Path(completions_lp.__file__).resolve().parent.parent / "analysis"
pytestmark = pytest.mark.skipif(not ANALYSIS.is_dir(), reason="not a checkout")
WITH_MODEL = {"convergence"}
SCRIPTS = sorted(path.stem for path in ANALYSIS.glob("*.py") if "\nfrom drawing import " in path.read_text("utf-8"))


@pytest.fixture
def drawing(monkeypatch):
    """The module that the scripts share, with a report made up instead of a run directory."""
    monkeypatch.syspath_prepend(str(ANALYSIS))
    module = __import__("drawing")
    monkeypatch.setattr(module, "load", lambda path: make_study())
    return module


def run(name, *arguments, monkeypatch):
    """Run a script as it is run from the command line, in this process."""
    path = ANALYSIS / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
    code = compile(path.read_text(encoding="utf-8"), str(path), "exec")
    exec(code, {"__name__": "__main__", "__doc__": ast.get_docstring(ast.parse(path.read_text()))})  # noqa: S102


def test_every_figure_has_a_script():
    assert set(GALLERY) - {"prompts_change"} | WITH_MODEL | {"table"} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_opens_with_what_it_shows_and_its_command(name):
    about = ast.get_docstring(ast.parse((ANALYSIS / f"{name}.py").read_text(encoding="utf-8")))
    assert f"python analysis/{name}.py RUN_DIR [RUN_DIR ...]" in about
    assert re.match(r"[A-Z].{20,}[.:?]", about)


@pytest.mark.parametrize("name", sorted(set(SCRIPTS) - WITH_MODEL - {"table"}))
@pytest.mark.usefixtures("drawing")
def test_a_script_writes_the_figure_with_its_table_and_caption(name, tmp_path, monkeypatch):
    run(name, "RUN", "--out", tmp_path, monkeypatch=monkeypatch)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.{end}" for end in ("csv", "pdf", "png", "txt")]
    with (tmp_path / f"{name}.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(tabulate(make_study(), name))
    assert (tmp_path / f"{name}.txt").read_text(encoding="utf-8").endswith(".\n")


@pytest.mark.usefixtures("drawing")
def test_several_runs_get_a_folder_each(tmp_path, monkeypatch, capsys):
    run("heatmap", "runs/a", "runs/b", "--out", tmp_path, "--quantity", "log_ratio_A", monkeypatch=monkeypatch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert "log_ratio_A" in (tmp_path / "b" / "heatmap.csv").read_text()
    with pytest.raises(SystemExit) as error:
        run("heatmap", "a/run", "b/run", "--out", tmp_path, monkeypatch=monkeypatch)
    assert error.value.code == 2
    assert "run directories of the same name: run, run" in capsys.readouterr().err


@pytest.mark.usefixtures("drawing")
def test_options_reach_the_figure(tmp_path, monkeypatch, capsys):
    run("prompts", "RUN", "--change", "--layer", "0", "--multiplier", "-1", "--out", tmp_path, monkeypatch=monkeypatch)
    assert "layer 0, multiplier −1" in (tmp_path / "prompts_change.txt").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as error:
        run("prompts", "RUN", "--layer", "9", "--out", tmp_path, monkeypatch=monkeypatch)
    assert error.value.code == 2
    assert "no cell at layer 9" in capsys.readouterr().err


@pytest.mark.usefixtures("drawing")
def test_the_table_is_latex(tmp_path, monkeypatch):
    run("table", "RUN", "--out", tmp_path, "--quantities", "delta_p_A", monkeypatch=monkeypatch)
    assert (tmp_path / "table.tex").read_text().count(r"\\") == 14


@pytest.mark.usefixtures("drawing")
def test_diagnostics_draw_the_steered_draws_that_the_run_directory_has(tmp_path, monkeypatch):
    row = {"prompt_id": ["p0"], "p_A_steered": [0.4], "share": [0.5], "low": [0.3], "high": [0.7], "trust": ["green"]}
    (tmp_path / "run").mkdir()
    write_table(tmp_path / "run" / "validation.parquet", row)
    run("diagnostics", tmp_path / "run", "--out", tmp_path, monkeypatch=monkeypatch)
    assert "its share among 1 sets of draws" in (tmp_path / "diagnostics.txt").read_text(encoding="utf-8")


@pytest.mark.usefixtures("drawing")
def test_the_same_numbers_give_the_same_files(tmp_path, monkeypatch):
    for name in ("one", "two"):
        run("damage", "RUN", "--out", tmp_path / name, monkeypatch=monkeypatch)
    for end in ("pdf", "png", "csv", "txt"):
        assert (tmp_path / "one" / f"damage.{end}").read_bytes() == (tmp_path / "two" / f"damage.{end}").read_bytes()


def test_the_figures_need_no_torch():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import drawing; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(ANALYSIS)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_study_is_a_valid_configuration_with_every_control():
    config = load_config(ANALYSIS / "study.toml")
    assert config.controls.random_directions == config.controls.shuffled_labels == 19
    assert config.controls.negated
    assert (min(config.scoring.multipliers), max(config.scoring.multipliers)) == (-4, 4)


def test_reproducing_runs_every_script():
    text = (ANALYSIS / "reproduce.sh").read_text()
    for name in SCRIPTS:
        assert re.search(rf"\b{name}\b", text), name
    assert subprocess.run(["sh", "-n", str(ANALYSIS / "reproduce.sh")], check=False).returncode == 0
