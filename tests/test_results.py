"""Looking at a run that is there: without a model, without torch."""

import shutil
import subprocess
import sys

import pytest

from completions_lp import cli, store
from completions_lp.job.results import draw_figures, load
from completions_lp.records import InputError
from completions_lp.show.figures import GALLERY


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small run of the embedded model."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    changes = ("prompts.limit=8", "sampling.n=12", "scoring.layers=[2]", "scoring.multipliers=[-1,1]")
    options = [option for change in changes for option in ("--set", change)]
    assert cli.main(["run", "--quiet", "--out", str(folder), *options]) == 0
    return folder


def test_the_report_is_made_without_torch(folder):
    code = (
        "import sys; from completions_lp.cli import main; "
        f"assert main(['report', {str(folder)!r}]) == 0; "
        "assert not {'torch', 'transformers', 'nnsight'} & set(sys.modules), 'a model library was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300, capture_output=True)
    assert (folder / "report.html").is_file()


def test_every_figure_is_drawn_with_its_rows_and_caption(folder, capsys):
    assert cli.main(["figures", str(folder)]) == 0
    printed = capsys.readouterr()
    left_out = [name for name in GALLERY if f"figure {name}: left out, since the run has none" in printed.err]
    assert left_out == ["rivals", "off_target"]  # which this run has not
    assert len(printed.out.splitlines()) == len(GALLERY) - len(left_out)
    for name in (name for name in GALLERY if name not in left_out):
        for suffix in (".pdf", ".png", ".csv", ".txt"):
            assert (folder / "figures" / f"{name}{suffix}").stat().st_size > 0, (name, suffix)
    assert "\\toprule" in (folder / "figures" / "table.tex").read_text()
    assert "data:image/png;base64," in (folder / "report.html").read_text(encoding="utf-8")


def test_one_figure_can_be_asked_for_and_a_wrong_name_is_said(folder):
    assert [path.name for path in draw_figures(folder, names=["heatmap"])] == ["heatmap.pdf"]
    with pytest.raises(InputError, match="no figure 'heat'; there are layer_sweep"):
        draw_figures(folder, names=["heat"])


def test_figures_of_scores_that_are_made_anew_are_dropped(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    draw_figures(copy, names=["heatmap"])
    store.drop_stages(copy, store.read_info(copy), ["report"])
    assert (copy / "figures" / "heatmap.pdf").is_file()
    store.drop_stages(copy, store.read_info(copy), ["score"])
    assert list((copy / "figures").iterdir()) == []


def test_a_run_compared_with_itself_differs_by_nothing(folder, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    rows = tmp_path / "rows.csv"
    quantity = ["--quantity", "delta_p_A", "--quantity", "increase_to_answer_A"]
    assert cli.main(["compare", str(folder), str(other), *quantity, "--csv", str(rows)]) == 0
    shown = capsys.readouterr().out
    assert "over the 8 prompts that both runs asked" in shown or "8 shared" in shown or "8 and 8" in shown
    table = [line.split(",") for line in rows.read_text().splitlines()]
    place = table[0].index("difference_value")
    assert len(table) > 2
    assert all(float(row[place]) == 0 for row in table[1:])
    assert cli.main(["compare", str(folder)]) == 2
    assert "at least two" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_said(tmp_path):
    with pytest.raises(InputError, match="not a run directory"):
        load(tmp_path)
