"""Runs with workers on a Ray cluster: the same bytes as without, whoever is lost on the way; and what goes wrong."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet
import pytest
from runs import begin, change, make_place

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")

from completions_lp import store  # noqa: E402
from completions_lp.job.status import StageStatus  # noqa: E402
from completions_lp.model import load_model  # noqa: E402
from completions_lp.records import InputError, OutOfRoom  # noqa: E402
from completions_lp.show.text.status import format_progress, format_status  # noqa: E402
from completions_lp.work import batches, crew, progress  # noqa: E402
from completions_lp.work.cluster import Cluster, share_nodes  # noqa: E402
from completions_lp.work.crew import Crew, CrewHands  # noqa: E402
from completions_lp.work.machine import list_versions  # noqa: E402
from completions_lp.work.worker import Recipe  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")
NODE = {"num_cpus": 1}
UNIT = 60
"""Tokens times conditions of a unit here, so that a small run has many."""


@pytest.fixture(scope="module")
def nodes():
    """Two nodes on this machine, with a core each; the second one, by number, may be lost and is then there again."""
    patch, folder = pytest.MonkeyPatch(), Path(tempfile.mkdtemp(prefix="clp-"))  # short: sockets have no long names
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    patch.setattr("ray._private.ray_constants.ENABLE_RAY_CLUSTER", False)  # by which nodes are called 127.0.0.1
    made = cluster_utils.Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "temp_dir": str(folder)}
    )
    made.second = made.add_node(**NODE)
    ray.init(address=made.address, log_to_driver=False, configure_logging=False)
    yield made
    ray.shutdown()
    made.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
    patch.undo()


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """A folder, the configuration of a small run, and that run as one process has done it."""
    folder = tmp_path_factory.mktemp("workers")
    config = make_place(folder, tokenizer)
    config["controls"]["random_directions"] = 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches, "UNIT", UNIT)
        begin(config, folder / "one").all()
    return folder, config


def with_workers(config, nodes, n=2):
    return change(config, {"run.workers": n, "run.address": nodes.address})


def list_units(run):
    """What units hold, by name, but for the time that they took."""
    found = {}
    for path in (run / "units").glob("*/*/*.parquet"):
        table = pyarrow.parquet.read_table(path)
        said = json.loads(table.schema.metadata[b"completions_lp"])
        del said["spent"]["seconds"]
        columns = table.replace_schema_metadata(None)
        found[path.relative_to(run).as_posix()] = said, [column.to_pylist() for column in columns.columns]
    return found


def compare(one, two):
    """Assert that two runs have the same units, and the same bytes in every table."""
    ours, theirs = list_units(one), list_units(two)
    assert set(ours) == set(theirs)
    assert len(ours) > 12
    for name, unit in ours.items():
        assert repr(theirs[name]) == repr(unit), name
    tables = [*one.glob("*.parquet"), *one.glob("*.csv")]
    assert {path.name for path in tables} == {path.name for path in (*two.glob("*.parquet"), *two.glob("*.csv"))}
    for path in tables:
        assert (two / path.name).read_bytes() == path.read_bytes(), path.name


def test_two_nodes_of_which_one_is_lost_give_the_bytes_of_one_process(place, nodes, monkeypatch):
    folder, config = place
    monkeypatch.setattr(batches, "UNIT", UNIT)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    write, seen = store.write_unit, []

    def commit(*arguments, **options):
        unit = write(*arguments, **options)
        members = run.crew._members
        seen.append((arguments[1], [member.doing for member in members], store.read_progress(folder / "two")))
        kinds = [kind for kind, *_ in seen]
        if kinds.count("scores") == 2:  # with the second worker in the middle of another one
            nodes.remove_node(nodes.second, allow_graceful=False)
        return unit

    monkeypatch.setattr(store, "write_unit", commit)
    run = begin(with_workers(config, nodes), folder / "two")
    run.all()
    nodes.second = nodes.add_node(**NODE)
    compare(folder / "one", folder / "two")
    assert not run.is_open  # no weights here
    assert max(len(doing) for _, doing, _ in seen) == 2
    told = [now for kind, _, now in seen if kind == "scores" and now["title"] == "score"]
    assert 0 < told[-1]["done"] <= told[-1]["total"]
    assert {worker["number"] for worker in told[0]["workers"]} == {1, 2}
    assert not (folder / "two" / "progress.json").exists()
    work, before = (json.loads((folder / name / "run.json").read_text()) for name in ("two", "one"))
    assert work["token_counts"] == before["token_counts"]
    # All is there: nobody is asked for.
    assert not begin(with_workers(config, nodes), folder / "two").all().errors


def test_without_a_directory_the_report_is_the_same(place, nodes, monkeypatch):
    folder, config = place
    monkeypatch.setattr(batches, "UNIT", UNIT)
    run = begin(with_workers(config, nodes, 1), None)
    report = run.all()
    assert [repr(row) for row in report.rows] == [repr(row) for row in begin(config, folder / "one").all().rows]
    assert run._scratch is None


def make_recipe(place, **options):
    asked = {"name": place[1]["model"]["name"], "revision": None, "dtype": "float32", "device": "cpu"}
    return Recipe(load_model, {**asked, "residual": "float32", **options})


def make_hands(place, nodes):
    cluster = Cluster(nodes.address, 2, device="cpu", gpus=1)
    return CrewHands(Crew(cluster, progress.Progress(None, show=False), lambda _: None), make_recipe(place))


def die_once(model, flag):
    """End the process, the first time."""
    if not Path(flag).exists():
        Path(flag).touch()
        os._exit(1)
    return model.n_layers


def die(model):
    os._exit(1)


def refuse(model):
    raise OutOfRoom("prompt 'x' does not fit", item="it", prompt_id="x")


def test_what_goes_wrong_on_a_worker_is_told_or_done_again(place, nodes, tmp_path, monkeypatch):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    hands = make_hands(place, nodes)
    lost = CrewHands(hands.crew, make_recipe(place, name=str(place[0] / "nowhere")))
    try:
        known = dict(hands.describe())
        with pytest.raises(OutOfRoom, match="'x' does not fit") as caught:  # as itself
            hands.call(refuse)
        assert caught.value.prompt_id == "x"
        with pytest.raises(InputError, match=r"the worker on node .*nowhere.*; each node needs the model at the same"):
            lost.describe()
        for name in ("weights", "dtype"):
            other = {"versions": list_versions(), "model": {**known, name: "x"}}
            with pytest.raises(InputError, match=f"has another model under the name .* its {name} is "):
                hands.crew._compare(hands.recipe.key, "it", other)
        with pytest.raises(InputError, match=r"it has torch 0\.1, and here it is"):
            hands.crew._compare("", "it", {"versions": {**list_versions(), "torch": "0.1"}, "model": known})
        assert hands.call(die_once, str(tmp_path / "flag")) == 2  # by another worker
        monkeypatch.setattr(crew, "MOST_LOSSES", 1)
        with pytest.raises(InputError, match="a unit of work has ended 1 workers, one after the other"):
            hands.call(die)
    finally:
        hands.crew.close()


def test_an_address_without_a_cluster_is_told(nodes, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: (_ for _ in ()).throw(ConnectionError("nobody there")))
    with pytest.raises(InputError, match=r"--address 127\.0\.0\.1:1: no Ray cluster can be joined there \(nobody"):
        Cluster("127.0.0.1:1", 2, device="cpu", gpus=1).start()


def test_without_ray_one_line_says_what_to_install(place, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = change(place[1], {"run.workers": 2})
    with pytest.raises(InputError, match=r"pip install 'completions-lp\[ray\]'"):
        begin(config, tmp_path / "run").all()
    assert not (tmp_path / "run").exists()


def test_a_small_run_is_done_by_one_process_which_is_told(place, tmp_path):
    told = []
    run = begin(change(place[1], {"run.workers": 2}), tmp_path / "run", tell=told.append)
    run.vector()
    (line,) = told
    assert line.startswith("one worker is faster for so little: about 0 s of passes, and 2 workers take about")
    assert run.is_open


@pytest.mark.parametrize(
    ("cpus", "workers", "most"),
    [([4], 1, 4), ([4], 3, 1), ([4, 4], 2, 4), ([4, 4], 3, 2), ([4, 8], 3, 4), ([2, 2], 9, 1), ([], 1, 1)],
)
def test_workers_have_as_many_cores_as_all_can_have(cpus, workers, most):
    share = share_nodes([{"CPU": float(n)} for n in cpus], workers, gpus=0, own=False)
    assert (share.cpus, share.threads) == (most, most)
    assert most == max([k for k in range(1, 9) if sum(n // k for n in cpus) >= workers], default=1)


def test_what_a_run_is_at_is_told_with_what_is_left():
    worker = {"number": 2, "node": "n\x1b1", "doing": "scores of 40", "since": 990.0}
    told = {"title": "score", "unit": "unit", "done": 3, "total": 10, "since": 700.0, "workers": [worker]}
    lines = [
        "in progress: score, 3 of 10 units, for 5 min, about 12 min left",
        "  worker 2 on n\\x1b1: scores of 40, for 10 s",
    ]
    assert format_progress(told, 1000.0) == lines
    by_work = format_progress({**told, "work": 3.0, "whole": 4.0}, 1000.0)  # of larger units first
    assert by_work[0] == "in progress: score, 3 of 10 units, for 5 min, about 2 min left"
    assert format_progress({**told, "done": 0}, 1000.0)[0].endswith("0 of 10 units, for 5 min")
    assert format_progress({"title": "score"}, 1000.0) == []
    stage = StageStatus("score", False, (), 0)
    assert "\nin progress: score" in format_status([stage], 1, 2, 0, held=True, progress=told)
