"""Several seeds: each draws as a run of its own does, the numbers are of all of them, and the spread is told."""

import itertools
import json
import math
import shutil
from collections import defaultdict
from dataclasses import asdict, replace

import numpy as np
import pyarrow.parquet
import pytest
import torch
from conftest import make_prompts
from crashes import Forks
from runs import begin, change, do_stages, list_keys, make_place, sum_work

from completions_lp import store
from completions_lp.job.config import Config, load_config, make_config
from completions_lp.job.inputs import hash_completions
from completions_lp.job.results import load, make_report, save
from completions_lp.plan.costs import Workload
from completions_lp.records import InputError, Sampling
from completions_lp.report import summarize
from completions_lp.report.comparison import compare_reports
from completions_lp.sample.draws import draw_samples, sample_completions, shorten_sampling
from completions_lp.score.topup import pool_completions
from completions_lp.show.page import make_page
from completions_lp.show.text import format_latex, format_report
from completions_lp.show.text.headline import format_overview
from completions_lp.show.text.seeds import say_seeds
from completions_lp.work import keys

SEEDS = [4, 0, 7]
ALONE = {"sampling.top_up": 0, "controls.random_directions": 0, "prompts.limit": 6, "model.dtype": "float64"}
"""Nothing that follows the seed but the draws."""


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """A configuration, and the folders of runs by what their seed, or seeds, are."""
    folder = tmp_path_factory.mktemp("seeds")
    config = change(make_place(folder, tokenizer), {**ALONE, "sampling.n": 30})
    runs = {seed: {"sampling.seed": seed} for seed in SEEDS} | {"all": {"sampling.seeds": SEEDS}}
    for name, changes in runs.items():
        run_whole(change(config, changes), folder / str(name))
    return config, {name: folder / str(name) for name in runs}


def run_whole(config, out):
    begin(config, out).all()
    return out


def read_rows(folder, name):
    return pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()


def list_draws(model, prompts, sampling, **options):
    """By prompt, what each number drew, in order."""
    found = []
    for draws in draw_samples(model, prompts, sampling, **options):
        numbered = {number: tuple(draw.token_ids) for draw in draws for number in draw.samples}
        found.append([numbered[number] for number in sorted(numbered)])
        assert len(numbered) == sum(len(draw.samples) for draw in draws)
    return found


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 9}], ids=str)
def test_the_block_of_a_seed_is_what_it_draws_alone(build_model, engine, options):
    model, prompts = build_model("llama", dtype=torch.float64), make_prompts((5, 2, 8))
    sampling = Sampling(n=9, max_new_tokens=3, **options)
    alone = [list_draws(model, prompts, replace(sampling, seed=seed), engine=engine) for seed in SEEDS]
    assert all(one != other for one, other in itertools.pairwise(alone))
    together = list_draws(model, prompts, replace(sampling, seeds=tuple(SEEDS)), engine=engine)
    assert together == [[ids for draws in alone for ids in draws[i]] for i in range(len(prompts))]


def test_counts_by_seed_are_those_of_the_draws(build_model):
    model, prompts = build_model("llama", vocab_size=7), make_prompts((5, 2, 8), vocab=7)
    made = sample_completions(model, prompts, sampling=Sampling(n=9, max_new_tokens=2, seeds=(4, 0)), progress=False)
    assert (made.counts > made.seed_counts.max(1)).any()  # some are drawn under both
    for k, seed in enumerate((4, 0)):
        alone = sample_completions(model, prompts, sampling=Sampling(n=9, max_new_tokens=2, seed=seed), progress=False)
        part = made.of_seed(k)
        assert count(part) == count(alone)
        assert part.sampling == alone.sampling
    some = made.select([2, 0])
    assert count(some.of_seed(1)) == count(made.of_seed(1).select([2, 0]))


def count(completions):
    """By prompt and tokens, how often they were drawn, and their label."""
    rows = zip(completions.prompt_index, completions.token_ids, completions.lengths, strict=True)
    keys = [(completions.prompts[i].id, *ids[:n].tolist()) for i, ids, n in rows]
    return dict(zip(keys, zip(completions.counts.tolist(), completions.label.tolist(), strict=True), strict=True))


def test_a_run_holds_what_the_runs_with_each_seed_have_stored(place):
    _, folders = place
    whole = read_rows(folders["all"], "completions")
    assert {len(row["seed_counts"]) for row in whole} == {3}
    assert all(sum(row["seed_counts"]) == row["count"] for row in whole)
    told = ("prompt_id", "text", "pieces", "ended", "label", "answer_index")
    for k, seed in enumerate(SEEDS):
        alone = read_rows(folders[seed], "completions")
        assert all(row["seed_counts"] is None for row in alone)
        want = {(*row["token_ids"], row["prompt_id"]): row for row in alone}
        got = {(*row["token_ids"], row["prompt_id"]): row for row in whole if row["seed_counts"][k]}
        assert got.keys() == want.keys()
        for key, row in got.items():
            assert row["seed_counts"][k] == want[key]["count"]
            assert [row[name] for name in told] == [want[key][name] for name in told]
            np.testing.assert_allclose(row["token_logprob"], want[key]["token_logprob"], atol=1e-10)


def test_a_seeds_numbers_are_those_of_its_own_run(place):
    """Every mean over prompts, under every condition and unsteered."""
    _, folders = place
    found = defaultdict(dict)
    for row in read_rows(folders["all"], "seeds"):
        key = row["vector"], row["layer"], row["multiplier"], row["quantity"]
        found[row["seed"]][key] = row["value"], row["n_prompts"], row["unit"]
    assert list(found) == SEEDS
    for seed in SEEDS:
        rows = [row for row in read_rows(folders[seed], "summary") if row["split"] == "all"]
        rows = [row for row in rows if row["weighting"] == "macro" and not row["quantity"].endswith("_odd")]
        rows = [row for row in rows if row["quantity"] in {name for *_, name in found[seed]}]
        want = {(row["vector"], row["layer"], row["multiplier"], row["quantity"]): row for row in rows}
        assert want.keys() <= found[seed].keys()
        assert {"increase_to_answer_A", "delta_p_A", "kl", "increase_all", "p_A", "share_A"} <= {
            key[-1] for key in want
        }
        for key, row in want.items():
            value, n, unit = found[seed][key]
            assert (n, unit) == (row["n_prompts"], row["unit"]), key
            assert value == pytest.approx(row["value"], abs=1e-8, nan_ok=True), key


def test_the_spread_between_seeds_is_that_of_their_means_by_hand(place):
    """From single completions: their increases, weighted by how often each seed drew them."""
    _, folders = place
    said = {(row["prompt_id"], row["completion_id"]): row for row in read_rows(folders["all"], "completions")}
    targets = {row["prompt_id"]: row["matching"] for row in read_rows(folders["all"], "questions")}
    scores = read_rows(folders["all"], "scores")
    checked = 0
    for row in read_rows(folders["all"], "summary"):
        if (row["quantity"], row["weighting"], row["split"]) != ("increase_to_answer_A", "macro", "all"):
            continue
        means = []
        for k in range(3):
            by_prompt = defaultdict(list)
            for score in scores:
                one = said[score["prompt_id"], score["completion_id"]]
                same = all(score[name] == row[name] for name in ("vector", "layer", "multiplier"))
                if same and one["label"] == targets[score["prompt_id"]]:
                    by_prompt[score["prompt_id"]] += [score["increase_to_answer"]] * one["seed_counts"][k]
            means.append(np.mean([np.mean(values) for values in by_prompt.values() if values]))
        assert row["n_seeds"] == 3
        assert row["seed_sd"] == pytest.approx(np.std(means, ddof=1), rel=1e-9, abs=1e-12)
        checked += row["seed_sd"] > 1e-6
    assert checked >= 2


def test_the_pooled_numbers_are_over_all_draws(place):
    """As if one run had drawn them: the per-prompt shares are those of all counts."""
    _, folders = place
    prompts = [row for row in read_rows(folders["all"], "prompts") if row["multiplier"] == 1]
    alone = {seed: [row for row in read_rows(folders[seed], "prompts") if row["multiplier"] == 1] for seed in SEEDS}
    for i, row in enumerate(prompts):
        assert row["n"] == 90
        assert row["n_A"] == sum(alone[seed][i]["n_A"] for seed in SEEDS)
    means = [[row["p_A"] for row in alone[seed]] for seed in SEEDS]
    assert not np.allclose(means[0], [row["p_A"] for row in prompts])


def test_one_seed_has_no_spread(place, tmp_path):
    config, folders = place
    listed = run_whole(change(config, {"sampling.seeds": [4]}), tmp_path / "one")
    assert not (listed / "seeds.parquet").exists()
    assert not (listed / "seed_measures.parquet").exists()
    for name in ("completions", "measures", "prompts", "summary"):
        assert (listed / f"{name}.parquet").read_bytes() == (folders[4] / f"{name}.parquet").read_bytes()
    assert all(row["seed_sd"] is None and row["n_seeds"] is None for row in read_rows(listed, "summary"))
    assert say_seeds(load(listed)) == ""
    assert "Between" not in (listed / "report.md").read_text()


def test_units_are_those_of_single_seeds(place, tmp_path):
    """A run goes on from one with one seed, and back, and draws only what is not there."""
    config, folders = place
    drawn = list_keys(folders["all"])["draws"]
    assert drawn == set.union(*(list_keys(folders[seed])["draws"] for seed in SEEDS))
    out = tmp_path / "out"
    shutil.copytree(folders[0], out)
    do_stages(change(config, {"sampling.seeds": [0, 4]}), out)
    work = json.loads((out / "run.json").read_text())["work"]["sample"]
    assert (work["units_made"], work["units_found"]) == (1, 1)
    do_stages(change(config, {"sampling.seeds": [4, 0]}), out)
    assert sum_work(out, of=("sample",))["tokens"] == 0
    run_whole(change(config, {"sampling.seed": 4}), out)
    assert sum_work(out)["tokens"] == 0
    for name in ("completions", "scores", "summary"):
        assert (out / f"{name}.parquet").read_bytes() == (folders[4] / f"{name}.parquet").read_bytes()


def test_a_run_that_knew_of_no_seeds_is_not_taken_for_one_with_several(place, tmp_path):
    """Its settings do not name the key: as it was asked it stays as it is, and with seeds it is done anew."""
    config, folders = place
    out = tmp_path / "earlier"
    shutil.copytree(folders[0], out)
    info = json.loads((out / "run.json").read_text())
    del info["config"]["sampling"]["seeds"]
    assert info["stages"]["sample"]["settings"].pop("sampling.seeds") == []
    (out / "run.json").write_text(json.dumps(info))
    assert not do_stages(config, out).has_worked
    assert do_stages(change(config, {"sampling.seeds": [0, 1]}), out).has_worked


def test_what_stands_for_completions_of_one_seed_is_what_it_was(place):
    """Scores of earlier versions stay valid; and with several it stands for who drew what, too."""
    _, folders = place
    config = make_config(store.read_info(folders["all"])["config"])
    made = store.read_completions(folders["all"], sampling=config.sampling, labelling=config.labelling)
    one = made.of_seed(1)
    names = "token_ids", "lengths", "counts", "ended", "answer_index", "prompt_index", "logprob"
    arrays = [keys.hash_array(np.asarray(getattr(one, name), dtype=float)) for name in names]
    drawn = {name: value for name, value in asdict(one.sampling).items() if name != "seeds"} | {"top_up": 0}
    asked = [keys.describe_prompt(prompt) for prompt in one.prompts]
    earlier = store.hash_value([asked, drawn, one.labelling.describe(), one.label.tolist(), *arrays])
    assert hash_completions(one) == earlier
    exchanged = replace(made, seed_counts=made.seed_counts[:, [1, 0, 2]])
    assert hash_completions(exchanged) != hash_completions(made)


@pytest.fixture(scope="module")
def topped(place, tmp_path_factory):
    """A run in which draws of the steered model have joined, strongly steered."""
    config, _ = place
    changes = {"sampling.seeds": [0, 1], "sampling.top_up": 8, "scoring.multipliers": [-30.0, 1.0]}
    return run_whole(change(config, changes), tmp_path_factory.mktemp("topped") / "out")


def test_steered_draws_are_of_no_seed(topped):
    joined = {row["multiplier"] for row in read_rows(topped, "measures") if row["n_steered"]}
    assert joined
    assert all(sum(row["seed_counts"]) == row["count"] for row in read_rows(topped, "completions"))
    assert not {"seed_counts", "sampler_logprob"} & {*pyarrow.parquet.read_schema(topped / "steered.parquet").names}
    rows = [row for row in read_rows(topped, "summary") if (row["weighting"], row["split"]) == ("macro", "all")]
    for row in (row for row in rows if row["kind"] == "target" and row["multiplier"] in joined):
        if row["quantity"] in ("delta_p_A", "p_A_steered", "log_ratio_A"):
            assert row["seed_sd"] is None
        if row["quantity"] in ("increase_to_answer_A", "kl", "increase_all"):
            assert row["n_seeds"] == 2
    assert all(row["n_steered"] == 0 for row in read_rows(topped, "seed_measures"))
    values = [row["value"] for row in read_rows(topped, "seeds") if row["quantity"] == "delta_p_A"]
    assert any(map(math.isnan, values))


def test_a_pool_has_no_seeds(build_model):
    model, prompts = build_model("llama", vocab_size=7), make_prompts((5, 2), vocab=7)
    sampling = Sampling(n=5, max_new_tokens=2, seeds=(1, 2))
    made = sample_completions(model, prompts, sampling=sampling, progress=False)
    short = shorten_sampling(made, 4)
    assert (short.seed, short.seeds, short.n) == (1, (), 4)
    more = sample_completions(model, prompts, sampling=short, progress=False)
    pool = pool_completions(made, more)
    assert pool.completions.seed_counts is None
    assert pool.draws.sum(1).tolist() == [20, 8]
    with pytest.raises(InputError, match="how often each seed drew them is not known"):
        pool.completions.of_seed(0)


def test_the_report_says_what_differs_between_seeds(place):
    _, folders = place
    report = load(folders["all"])
    told = say_seeds(report)
    best = report.best.condition
    values = [one.value for one in report.seeds if (one.condition, one.quantity) == (best, "increase_to_answer_A")]
    e = report.estimate("increase_to_answer_A", best)
    assert told.startswith("Between 3 seeds, in the best cell: change of P(matching answer) sd ")
    each = ", ".join(f"{value:+.3f}" for value in values)
    half = (e.high - e.low) / 2
    said = f"to the answer sd {np.std(values, ddof=1):.2g} nats ({each}), the interval's half width is {half:.2g}."
    assert told.endswith(said)
    assert told in format_report(report, title="t", quality={})
    assert "30 for each of the seeds 4, 0, 7 (controls and resamples: seed 4)" in format_report(
        report, title="t", quality={}
    )
    assert "Between 3 seeds" in format_overview(report, title="t")
    page = make_page(report, report.info)
    assert "Between 3 seeds" in page
    assert "<dt>Seeds</dt><dd><bdi>4, 0, 7</bdi></dd>" in page


def test_a_report_with_seeds_is_saved_and_compared(place, tmp_path):
    _, folders = place
    report = load(folders["all"])
    again = load(save(report, tmp_path / "saved"))
    assert [vars(one) for one in again.seeds] == [vars(one) for one in report.seeds]
    assert make_report(folders["all"]).seeds == report.seeds
    found = compare_reports({"several": report, "one": load(folders[0])})
    assert any(difference.paired for difference in found)
    assert format_latex(report).count(r"\\") == format_latex(load(folders[0])).count(r"\\")


def test_without_the_measures_of_seeds_the_increases_are_told(place):
    _, folders = place
    report = load(folders["all"])
    alone = summarize(report.increases, report.choices, report.measures)
    known = {row.quantity for row in alone.rows if row.inference.n_seeds == 3}
    assert "increase_to_answer_A" in known
    assert "delta_p_A" not in known


def test_an_edited_count_by_seed_is_refused(place, tmp_path):
    _, folders = place
    out = tmp_path / "edited"
    shutil.copytree(folders["all"], out)
    path = out / "completions.parquet"
    table = pyarrow.parquet.read_table(path)
    at = table.schema.get_field_index("seed_counts")
    values = table["seed_counts"].to_pylist()
    for wrong in ([1, 2], [*values[0][:2], values[0][2] + 1], None):
        column = pyarrow.array([wrong, *values[1:]], table.schema.field(at).type)
        pyarrow.parquet.write_table(table.set_column(at, "seed_counts", column), path)
        with pytest.raises(InputError, match=r"row 1: seed_counts is .* of 3 seeds that add up to count = "):
            load(out)
    pyarrow.parquet.write_table(table.drop_columns(["seed_counts"]), path)
    with pytest.raises(InputError, match="seed_counts is None"):
        load(out)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": (0, 1, 0)}, r"seeds is \[0, 1, 0\]: \[0\] twice would draw the same completions again"),
        ({"seeds": (0, 1), "greedy": True}, r"seeds is \[0, 1\], and greedy decoding is the same for every seed"),
        ({"seed": 3, "seeds": (0, 1)}, r"seed is 3 and seeds is \[0, 1\]; give one of the two"),
        ({"seeds": (0, -1)}, "seed is -1; it must be at least 0"),
        ({"n": 600_000, "seeds": (0, 1), "max_new_tokens": 1}, "n x seeds is 600000 x 2; at most 1000000"),
    ],
)
def test_seeds_that_cannot_be_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Sampling(**options)


def test_one_seed_or_several_are_given_and_the_last_word_counts(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[sampling]\nseed = 0\nseeds = [0, 1]\n")
    both = r"\[sampling\] seed is 0 and seeds is \[0, 1\]; give one of the two: seed for one seed, seeds for several"
    with pytest.raises(InputError, match=both):
        load_config(path)
    with pytest.raises(InputError, match=both):
        load_config(None, ["sampling.seed=0", "sampling.seeds=[0,1]"])
    path.write_text("[sampling]\nseed = 3\n")
    several = load_config(path, ["sampling.seeds=[5,6]"])
    assert (several.sampling.seed, several.sampling.seeds, several.sampling.draws) == (5, (5, 6), 200)
    assert load_config(None, base=several.model_dump()) == several  # as run.json has it
    one = load_config(None, ["sampling.seed=2"], base=several.model_dump())
    assert (one.sampling.seed, one.sampling.seeds) == (2, ())
    none = load_config(None, ["sampling.seeds=[]"], base=several.model_dump())
    assert (none.sampling.seed, none.sampling.seeds) == (5, ())
    with pytest.raises(InputError, match="greedy decoding is the same for every seed; leave one of them out"):
        load_config(None, ["sampling.greedy=true", "sampling.seeds=[1,2]"])
    with pytest.raises(InputError, match=r"^\[sampling\] seeds is 'many'; it must be a list"):
        load_config(None, ["sampling.seeds=many"])
    assert Config().sampling.seeds == ()


def test_a_plan_counts_every_seed(place):
    """The work of sampling is that of runs with each seed; of scoring, that of all that they drew."""
    _, folders = place
    tokens = {name: store.read_info(folder)["token_counts"]["sample"]["tokens"] for name, folder in folders.items()}
    report = load(folders["all"])
    work = Workload.of(report.increases.completions, report.increases.conditions)
    assert (work.samples, work.seeds) == (90, 3)
    assert tokens["all"] == sum(tokens[seed] for seed in SEEDS)
    foreseen = work.weigh("sample", 6, 90, 1)
    assert foreseen == pytest.approx(tokens["all"], rel=0.1)
    alone = load(folders[0]).increases
    assert foreseen == pytest.approx(
        3 * Workload.of(alone.completions, alone.conditions).weigh("sample", 6, 30, 1), rel=0.1
    )


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(place, tmp_path):
    config, _ = place
    lines = [
        f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in part.items()) for name, part in config.items()
    ]
    (tmp_path / "run.toml").write_text("".join(lines))
    words = ("run", tmp_path / "run.toml", "--quiet", "--set", "sampling.seeds=[4,0,7]")
    forks = Forks(tmp_path)
    try:
        whole = forks.run(*words, "--out", tmp_path / "whole", unit=400)
        assert (whole.code, whole.err) == (0, "")
        moved = whole.events.count("replace")
        for at in (3, moved // 4, moved // 2, moved - 2):
            out = tmp_path / f"cut-{at}"
            cut = forks.run(*words, "--out", out, unit=400, do="kill", at=at, of=("replace",))
            assert cut.code == 137
            assert forks.run(*words, "--out", out, unit=400).code == 0
            for path in (tmp_path / "whole").glob("*.parquet"):
                assert (out / path.name).read_bytes() == path.read_bytes(), (at, path.name)
    finally:
        forks.close()
