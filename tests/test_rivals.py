"""Rivals: the very same completions under another prompt or another model, by full forward passes and by hand."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pyarrow.parquet
import pytest
import reference
import scipy.stats
import torch
from runs import begin, change, list_keys, make_place, read_info, sum_work
from safetensors.torch import load_file, save_file
from test_adapter import write_adapter
from test_all_choices import spell

import completions_lp as clp
from completions_lp import cli, store
from completions_lp.checkpoint.vocabulary import compare_tokenizers
from completions_lp.job.config import load_config, make_config
from completions_lp.job.provenance import find_reasons
from completions_lp.job.results import make_report
from completions_lp.job.rival import RivalSection
from completions_lp.job.status import find_status
from completions_lp.records import BASELINE, InputError, make_rival
from completions_lp.report.rivals import QUANTITIES
from completions_lp.show.page import make_page
from completions_lp.show.text import format_latex, format_overview, format_report

PREPENDED = "Be careful, please.\n"
TEMPLATE = "Q: {question}\nAnswer:"
OWN = "{question}\n\nAnswer:"
SETTINGS = {
    "sampling.n": 12,
    "sampling.max_new_tokens": 4,
    "sampling.top_up": 0,
    "prompts.limit": 6,
    "scoring.multipliers": [-2.0, 2.0],
}
RIVALS = (
    {"name": "told", "prepend": PREPENDED},
    {"name": "templated", "template": TEMPLATE},
    {"name": "same", "template": OWN},
    {"name": "tuned", "model": "PLACE/tuned"},
    {"name": "tuned and told", "model": "PLACE/tuned", "prepend": PREPENDED},
    {"name": "itself", "model": "PLACE/model"},
)
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def with_rivals(config, rivals, **changes):
    return {**change(config, changes), "rival": rivals}


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """Inputs, a model with other weights beside the run's own, and a configuration without rivals."""
    folder = tmp_path_factory.mktemp("place")
    config = change(make_place(folder, tokenizer), SETTINGS)
    shutil.copytree(folder / "model", folder / "tuned")
    path = folder / "tuned/model.safetensors"
    weights = load_file(path)
    generator = torch.Generator().manual_seed(1)
    weights = {name: w + 0.3 * w.std() * torch.randn(w.shape, generator=generator) for name, w in weights.items()}
    save_file(weights, path, metadata={"format": "pt"})
    return folder, config


def put(rivals, folder):
    return json.loads(json.dumps(list(rivals)).replace("PLACE", str(folder)))


@pytest.fixture(scope="module", params=["float32", "float64"])
def made(request, place, tmp_path_factory):
    """A run with all rivals, its report and its folder."""
    folder, config = place
    out = tmp_path_factory.mktemp("runs") / request.param
    run = begin(with_rivals(config, put(RIVALS, folder), **{"model.dtype": request.param}), out)
    return run.all(), run, out


@pytest.fixture(scope="module")
def alone(place, tmp_path_factory):
    """The same run without rivals."""
    out = tmp_path_factory.mktemp("runs") / "alone"
    return begin(place[1], out).all(), out


def open_module(place, name, dtype):
    loaded = clp.load_model(place[0] / name, dtype=dtype)
    return loaded.module, loaded.tokenizer


def ask(rival, tokenizer, prompt):
    """A prompt of the run as a rival is asked it, by hand."""
    question = prompt.text.removesuffix("\n\nAnswer:")
    text = rival.get("prepend", "") + rival.get("template", OWN).format(question=question)
    return tokenizer(text).input_ids


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival["name"])
def test_log_probs_are_those_of_its_own_prompt_and_network(made, place, rival):
    report, run, _ = made
    dtype = run.network["dtype"]
    own, tokenizer = open_module(place, "model", dtype)
    other = open_module(place, rival["model"].removeprefix("PLACE/"), dtype)[0] if "model" in rival else own
    increases = report.increases
    at = increases.conditions.index(make_rival(rival["name"]))
    completions = increases.completions
    worst = 0.0
    for row, i in enumerate(completions.prompt_index):
        prompt, said = completions.prompts[i], completions.token_ids[row, : completions.lengths[row]].tolist()
        before = reference.score(own, prompt.token_ids, said).sum()
        after = reference.score(other, ask(rival, tokenizer, prompt), said).sum()
        worst = max(worst, abs(increases.increase[at, row] - (after - before)))
    assert worst < TOLERANCE[dtype] * 10 if dtype == "float32" else worst < TOLERANCE[dtype]


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival["name"])
def test_the_read_out_is_of_its_own_prompt_and_network(made, place, rival):
    report, run, _ = made
    dtype = run.network["dtype"]
    module, tokenizer = open_module(place, rival.get("model", "PLACE/model").removeprefix("PLACE/"), dtype)
    choices = report.choices
    at = choices.conditions.index(make_rival(rival["name"]))
    texts = spell(tokenizer)
    for i, prompt in enumerate(choices.prompts):
        asked = ask(rival, tokenizer, prompt)
        written = [tokenizer(f" ({letter})", add_special_tokens=False).input_ids for letter in choices.letters[i]]
        want = reference.read_choices(module, asked, written, texts)
        np.testing.assert_allclose(choices.logprob[at, i], want[:, 0], atol=TOLERANCE[dtype] * 10)


def test_answers_behind_the_reasoning_are_read_after_its_own_prompt_and_network(place, tmp_path):
    """Also where the reasoning ends with the completion, and behind a cue; each by one full forward."""
    folder, config = place
    changes = {"model.dtype": "float64", "scoring.cue": "Answer: ("}
    rivals = [RIVALS[0], RIVALS[4]]
    run = begin(with_rivals(config, put(rivals, folder), **changes), tmp_path / "run")
    readings = run.all().readings
    own, tokenizer = open_module(place, "model", "float64")
    tuned, _ = open_module(place, "tuned", "float64")
    cue, texts = tokenizer("Answer: (", add_special_tokens=False).input_ids, spell(tokenizer)
    for rival, module in zip(rivals, (own, tuned), strict=True):
        at = readings.conditions.index(make_rival(rival["name"]))
        for row in range(0, len(readings.completions), 5):
            prompt = readings.completions.prompts[readings.completions.prompt_index[row]]
            said = readings.completions.token_ids[row, : readings.at[row]].tolist()
            logits = reference.logits_of(module, [*ask(rival, tokenizer, prompt), *said, *cue])[-1]
            for k, letter in enumerate(prompt.letters):
                tokens = [i for i, text in enumerate(texts) if text == letter]
                want = float(logits.log_softmax(-1)[tokens].logsumexp(0))
                assert readings.logprob[at, row, k] == pytest.approx(want, abs=1e-9)


def test_the_run_itself_changes_nothing(made):
    report, run, _ = made
    limit = 5e-6 if run.network["dtype"] == "float32" else 1e-12
    for name in ("same", "itself"):
        at = report.increases.conditions.index(make_rival(name))
        assert np.abs(report.increases.increase[at]).max() < limit
        for quantity in ("delta_p_A", "logit_diff_change", "log_ratio_A", "increase_all"):
            assert abs(report.estimate(quantity, make_rival(name)).value) < 100 * limit


def test_p_of_the_answer_under_a_rival_is_exact_where_one_token_decides(place, tmp_path):
    """With a window of one token all completions begin at the same node: nothing is left to estimate."""
    folder, config = place
    rivals = put(RIVALS[:2], folder)
    report = begin(with_rivals(config, rivals, **{"label.within": 1, "model.dtype": "float64"}), tmp_path / "o").all()
    module, tokenizer = open_module(place, "model", "float64")
    letters = {letter: [letter in tokenizer.decode([t]) for t in range(320)] for letter in "AB"}
    for rival in rivals:
        at = report.measures.conditions.index(make_rival(rival["name"]))
        for i, prompt in enumerate(report.measures.prompts):
            law = reference.logits_of(module, ask(rival, tokenizer, prompt))[-1].softmax(-1).numpy()
            want = law[np.array(letters[prompt.matching]) & ~np.array(letters[prompt.not_matching])].sum()
            assert report.measures.steered["p_A_steered"][at, i] == pytest.approx(want, abs=1e-10)


def test_all_other_numbers_are_what_they_are_without_rivals(made, alone):
    report, run, _ = made
    if run.network["dtype"] != "float32":
        return
    others = [row for row in report.rows if row.condition.kind != "rival"]
    for row, other in zip(others, alone[0].rows, strict=True):
        assert (row.condition, row.quantity, row.weighting, row.split) == (
            other.condition,
            other.quantity,
            other.weighting,
            other.split,
        )
        for part in ("estimate", "inference"):
            one, two = (dataclasses.asdict(getattr(found, part)) for found in (row, other))
            for name in one:
                same = isinstance(one[name], str | None) or one[name] == pytest.approx(two[name], rel=1e-9, nan_ok=True)
                assert same, (row, other)
    assert report.best == alone[0].best
    assert len(report.slopes) == len(alone[0].slopes)
    same = {name for name, x in report.checks.items() if x == pytest.approx(alone[0].checks[name], nan_ok=True)}
    assert set(report.checks) - same <= {"all_completions_z"}


def test_a_rival_is_no_cell_of_the_sweep(made):
    report = made[0]
    rivals = [row for row in report.rows if row.condition.kind == "rival"]
    assert {row.condition.vector for row in rivals} == {rival["name"] for rival in RIVALS}
    assert report.best.condition.kind == "target"
    assert report.best.n_cells == 2
    assert "rival" not in {slope.kind for slope in report.slopes}
    for row in rivals:
        i = row.inference
        assert np.isnan(
            [i.p_max_t, i.p_holm, i.band_low, i.p_rank, i.random_mean, i.selection_frequency, i.rounding]
        ).all()
        assert not row.quantity.endswith("_odd")
        assert row.split == "all"


def test_divergences_of_a_rival_are_missing_and_no_error(made):
    report = made[0]
    assert np.isnan(report.estimate("kl", make_rival("told")).value)
    assert np.isfinite(report.estimate("increase_all", make_rival("told")).value)
    assert not [error for error in report.errors if "KL" in error]


def test_the_difference_is_paired_by_prompt(made):
    report = made[0]
    columns = {name: np.asarray(values) for name, values in report.prompts.items()}

    def read(condition, quantity):
        here = (columns["vector"] == condition.vector) & (columns["multiplier"] == condition.multiplier)
        return columns[quantity][here & (columns["layer"] == condition.layer)]

    found = {(r.rival.vector, r.condition, r.quantity): r for r in report.rivals if r.split == "all"}
    assert len(found) == len(RIVALS) * 2 * len(QUANTITIES)
    for (name, condition, quantity), row in found.items():
        own, other = read(condition, quantity), read(make_rival(name), quantity)
        both = np.isfinite(own) & np.isfinite(other)
        assert row.difference.n == both.sum()
        assert row.n_dropped == (~both).sum()
        if both.any():
            assert row.difference.value == pytest.approx((own - other)[both].mean(), abs=1e-12)
            assert row.steered.value - row.rivalled.value == pytest.approx(row.difference.value, abs=1e-12)
        if both.sum() >= 6:
            low, high = scipy.stats.ttest_1samp((own - other)[both], 0).confidence_interval()
            assert (row.difference.low, row.difference.high) == pytest.approx((low, high), abs=1e-9)


def test_the_best_cell_is_compared_on_the_prompts_that_did_not_choose_it(made):
    report = made[0]
    held = [row for row in report.rivals if row.split == "report"]
    assert {row.condition for row in held} == {report.best.condition}
    told = [row for row in report.rows if row.split == "report" and row.quantity == "delta_p_A"]
    for row in held:
        if row.quantity == "delta_p_A":
            assert row.steered.value == pytest.approx(told[0].estimate.value)


def test_what_is_stored_is_read_again_without_a_model(made, monkeypatch):
    report, _, folder = made
    monkeypatch.setattr("completions_lp.job.network.load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    again = clp.load(folder)
    assert list(map(repr, again.rows)) == list(map(repr, report.rows))
    assert list(map(repr, again.rivals)) == list(map(repr, report.rivals))
    assert list(map(repr, make_report(folder).rivals)) == list(map(repr, report.rivals))
    run = clp.job.stages.Run.open(folder)
    run.all()
    assert not run.has_worked


def test_a_saved_report_keeps_its_rivals(made, tmp_path):
    report = made[0]
    again = clp.load(report.save(tmp_path / "saved"))
    assert list(map(repr, again.rivals)) == list(map(repr, report.rivals))


def test_further_rivals_do_only_their_own_work(place, alone, tmp_path):
    folder, config = place
    out = tmp_path / "run"
    shutil.copytree(alone[1], out)
    rivals = put(RIVALS[:1], folder)
    assert begin(with_rivals(config, rivals), out).all().best == alone[0].best
    first = read_info(out)["work"]
    assert set(first) == {"dose", "choices", "score"}
    assert [first[step]["units_made"] for step in ("choices", "score")] == [1, 1]
    before = list_keys(out)
    begin(with_rivals(config, [*rivals, *put(RIVALS[3:4], folder)]), out).all()
    assert sum_work(out)["units_made"] == 2
    assert before["draws"] == list_keys(out)["draws"]
    fewer = begin(with_rivals(config, [{**rivals[0], "name": "renamed"}]), out)
    assert fewer.all().rivals[0].rival.vector == "renamed"
    assert sum_work(out)["units_made"] == 0
    assert begin(config, out).all().rivals == ()
    assert sum_work(out)["units_made"] == 0
    assert not (out / "rivals.parquet").exists()


def test_work_that_was_stopped_goes_on(place, alone, tmp_path, monkeypatch):
    folder, config = place
    out, rivals = tmp_path / "run", put(RIVALS[:4], folder)
    whole = begin(with_rivals(config, rivals), tmp_path / "whole").all()
    shutil.copytree(alone[1], out)
    write, made = store.write_unit, []

    def stop(*arguments, **options):
        if len(made) == 5:
            raise KeyboardInterrupt
        made.append(write(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(store, "write_unit", stop)
    with pytest.raises(KeyboardInterrupt):
        begin(with_rivals(config, rivals), out).all()
    monkeypatch.undo()
    report = begin(with_rivals(config, rivals), out).all()
    assert sum_work(out)["units_made"] == 3
    assert list(map(repr, report.rows)) == list(map(repr, whole.rows))


CHANGED = {
    "name": ({"name": "other"}, "none"),
    "system": ({"system": "Be kind."}, "own"),
    "few_shot": ({"few_shot": [{"user": "Is ice cold?", "assistant": "Yes"}]}, "own"),
    "template": ({"template": TEMPLATE}, "own"),
    "prepend": ({"prepend": "Be kind. "}, "own"),
    "model": ({"model": "PLACE/tuned"}, "own"),
}
FIXED = {"revision"}
"""Local files refuse it; of a hub it decides which weights are read, and these are hashed."""


@pytest.fixture(scope="module")
def chat(place, tmp_path_factory):
    """A run of a model with a chat template, and a rival that has every key in its plainest form."""
    folder, config = place
    shutil.copytree(folder / "model", folder / "chat")
    turns = "{% for turn in messages %}{{ turn.role }}: {{ turn.content }} {% endfor %}"
    (folder / "chat" / "chat_template.jinja").write_text(turns)
    (folder / "tuned" / "chat_template.jinja").write_text(turns)
    config = change(config, {"model.name": str(folder / "chat"), "prompts.template": "chat"})
    out = tmp_path_factory.mktemp("chat") / "base"
    begin(with_rivals(config, [{"name": "one", "prepend": "Hm. "}]), out).all()
    return folder, config, out


def test_every_key_of_a_rival_is_in_a_list():
    assert {*CHANGED, *FIXED} == set(RivalSection.model_fields)


@pytest.mark.parametrize("key", CHANGED)
def test_a_key_of_a_rival_changes_its_own_numbers_and_no_others(chat, tmp_path, key):
    folder, config, base = chat
    changes, kinds = CHANGED[key]
    out = tmp_path / "out"
    rival = put([{"name": "one", "prepend": "Hm. ", **changes}], folder)
    run = begin(with_rivals(config, rival), out)
    run.all()
    before, after = list_keys(base), list_keys(out)
    assert before["draws"] == after["draws"]
    for kind in ("scores", "choices"):
        assert (before[kind] == after[kind]) == (kinds == "none")
        contexts = {context for context, *_ in before[kind] & after[kind]}
        assert contexts, "what is steered is the same"
    stages = [read_info(place)["stages"] for place in (base, out)]
    assert stages[0]["score"]["consumed"]["rivals"] != stages[1]["score"]["consumed"]["rivals"]
    for stage in ("vector", "sample"):
        assert stages[0][stage]["consumed"] == stages[1][stage]["consumed"]
        assert stages[0][stage]["settings"] == stages[1][stage]["settings"]
    asked = make_config(with_rivals(config, rival)).model_dump()
    info = read_info(base)
    assert [found.stage for found in find_status(base, make_config(asked)) if not found.made] == ["score", "report"]
    assert "rival" in find_reasons("score", asked, info["stages"], base)[0]


def test_a_system_prompt_takes_the_place_of_the_runs_own(chat, tmp_path):
    folder, config, _ = chat
    rivals = [{"name": "same", "system": "Be brief."}, {"name": "none", "system": ""}]
    report = begin(with_rivals(config, rivals, **{"prompts.system": "Be brief."}), tmp_path / "out").all()
    at = [report.increases.conditions.index(make_rival(name)) for name in ("same", "none")]
    assert np.abs(report.increases.increase[at[0]]).max() < 5e-6
    module, tokenizer = open_module((folder,), "chat", "float32")
    completions = report.increases.completions
    for row, i in enumerate(completions.prompt_index):
        prompt = completions.prompts[i]
        bare = tokenizer(prompt.text.removeprefix("system: Be brief. ")).input_ids
        said = completions.token_ids[row, : completions.lengths[row]].tolist()
        want = reference.score(module, bare, said).sum() - reference.score(module, prompt.token_ids, said).sum()
        assert report.increases.increase[at[1], row] == pytest.approx(want, abs=1e-4)


def test_a_model_that_was_changed_is_told_and_done_again(place, tmp_path):
    folder, config = place
    shutil.copytree(folder / "tuned", tmp_path / "tuned")
    config = with_rivals(config, [{"name": "tuned", "model": str(tmp_path / "tuned")}])
    before = begin(config, tmp_path / "out").all()
    path = tmp_path / "tuned/model.safetensors"
    weights = load_file(path)
    weights["lm_head.weight"] = weights["lm_head.weight"] * 1.5
    save_file(weights, path, metadata={"format": "pt"})
    (score,) = [found for found in find_status(tmp_path / "out") if found.stage == "score"]
    assert any("model" in reason for reason in score.reasons)
    after = begin(config, tmp_path / "out").all()
    assert sum_work(tmp_path / "out")["units_made"] == 2
    own = [[row for row in report.rows if row.condition.kind != "rival"] for report in (before, after)]
    assert list(map(repr, own[0])) == list(map(repr, own[1]))
    assert repr(before.rivals) != repr(after.rivals)


def test_what_a_rival_says_itself_joins_where_the_unsteered_draws_tell_too_little(place, tmp_path):
    folder, config = place
    rivals = put([RIVALS[0], RIVALS[3]], folder)
    report = begin(with_rivals(config, rivals, **{"sampling.top_up": 5}), tmp_path / "out").all()
    drawn = pyarrow.parquet.read_table(tmp_path / "out/steered.parquet").to_pylist()
    asked = {prompt.id: prompt for prompt in report.increases.completions.prompts}
    for rival in rivals:
        module, tokenizer = open_module(place, rival.get("model", "/model").rpartition("/")[2], "float32")
        rows = [row for row in drawn if row["vector"] == rival["name"]]
        assert rows
        for row in rows[:6]:
            want = reference.score(module, ask(rival, tokenizer, asked[row["prompt_id"]]), row["token_ids"]).sum()
            assert row["logprob"] == pytest.approx(want, abs=1e-4)
        at = report.measures.conditions.index(make_rival(rival["name"]))
        assert report.measures.steered["n_steered"][at].max() == 5


def test_a_lora_adapter_is_a_rival(place, tmp_path):
    pytest.importorskip("peft")
    folder, config = place
    module, _ = open_module(place, "model", "float32")
    write_adapter(module, tmp_path / "lora", base=str(folder / "model"))
    rivals = [{"name": "adapted", "model": str(tmp_path / "lora")}]
    report = begin(with_rivals(config, rivals), tmp_path / "out").all()
    adapted = clp.load_model(tmp_path / "lora").module
    completions, at = report.increases.completions, report.increases.conditions.index(make_rival("adapted"))
    for row in range(0, len(completions), 5):
        prompt = completions.prompts[completions.prompt_index[row]]
        said = completions.token_ids[row, : completions.lengths[row]].tolist()
        own, other = (reference.score(m, prompt.token_ids, said).sum() for m in (module, adapted))
        assert report.increases.increase[at, row] == pytest.approx(other - own, abs=1e-4)
    assert np.abs(report.increases.increase[at]).max() > 0.01
    run = clp.job.stages.Run.open(tmp_path / "out")
    run.all()
    assert not run.has_worked
    assert not run.is_open


REFUSED = {
    "no key": ([{"name": "x"}], "'x' differs in nothing from the run: give another prompt (system, few_shot"),
    "no name": ([{"prepend": "x"}], 'number 1 has no name; give one, for example name = "cautious"'),
    "twice": ([{"name": "x", "prepend": "a"}, {"name": "x", "prepend": "b"}], "'x' stands twice"),
    "system": ([{"name": "x", "system": "Be kind."}], "'x': system goes with template = \"chat\""),
    "shots": (
        [{"name": "x", "few_shot": [{"user": "a", "assistant": "b"}]}],
        "'x': few_shot goes with template = \"chat\"",
    ),
    "template": ([{"name": "x", "template": "chat"}], "'x': template = \"chat\", but this model's tokenizer has no"),
    "revision": ([{"name": "x", "prepend": "a", "revision": "main"}], "'x' has a revision and no model"),
    "unknown key": ([{"name": "x", "sytem": "a"}], "unknown key of [[rival]]: 'sytem'; the nearest is 'system'"),
    "type": ([{"name": "x", "prepend": 3}], "[[rival]] prepend is 3; it must be text"),
    "no list": ({"name": "x"}, "[[rival]] is a section that may stand several times, got {'name': 'x'"),
    "no section": (["x"], "[[rival]] must be a section with keys, got 'x'"),
    "vector": ([{"name": "pairs", "prepend": "a"}], "'pairs' has the name of a vector"),
    "control": ([{"name": "pairs-random-0", "prepend": "a"}], "'pairs-random-0' has the name of a vector"),
    "model": ([{"name": "x", "model": "PLACE/nowhere"}], "no such folder"),
    "field": ([{"name": "x", "template": "{missing}"}], "[[rival]] 'x': "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_a_rival_is_refused_before_any_work(place, tmp_path, capsys, case):
    folder, config = place
    rivals, message = REFUSED[case]
    (tmp_path / "run.toml").write_text(_write_toml(config))
    text = json.dumps(rivals).replace("PLACE", str(folder))
    for old, new in (('": ', '" = '), ('"name" =', "name ="), ("true", "true")):
        text = text.replace(old, new)
    code = cli.main(
        ["run", str(tmp_path / "run.toml"), "--quiet", "--out", str(tmp_path / "out"), "--set", f"rival={text}"]
    )
    assert code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def _write_toml(config):
    lines = []
    for section, values in config.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines)


def test_another_tokenizer_is_refused_value_by_value(place, tmp_path, capsys):
    folder, config = place
    shutil.copytree(folder / "tuned", tmp_path / "other")
    path = tmp_path / "other/tokenizer.json"
    rules = json.loads(path.read_text())
    names = {place: token for token, place in rules["model"]["vocab"].items()}
    rules["model"]["vocab"] |= {names[40]: 41, names[41]: 40}
    path.write_text(json.dumps(rules))
    (tmp_path / "run.toml").write_text(_write_toml(config))
    rival = f'rival=[{{name="x", model="{tmp_path}/other"}}]'
    assert cli.main(["run", str(tmp_path / "run.toml"), "--out", str(tmp_path / "out"), "--set", rival]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"id 40 is {names[40]!r} and {names[41]!r}, id 41 is {names[41]!r} and {names[40]!r}" in told
    run = begin(with_rivals(config, [{"name": "x", "model": str(tmp_path / "other")}]), tmp_path / "out")
    with pytest.raises(InputError, match="has another tokenizer"):
        run.all()


def test_what_differs_between_tokenizers_is_told(tokenizer):
    assert compare_tokenizers(tokenizer, tokenizer) == []
    longer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    )
    longer.add_tokens(["<new>"])
    assert compare_tokenizers(tokenizer, longer)[0] == "294 tokens in the run's own, 295 in the rival's"
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules["normalizer"] = {"type": "Lowercase"}
    lower = tokenizer.backend_tokenizer.from_str(json.dumps(rules))
    assert compare_tokenizers(tokenizer, lower) == ['its normalizer is {"type": "Lowercase"}, the run\'s own null']


def test_prompts_that_are_not_those_sampled_are_refused(place, alone, tmp_path):
    folder, config = place
    out = tmp_path / "run"
    shutil.copytree(alone[1], out)
    text = (folder / "asked.jsonl").read_text()
    (tmp_path / "asked.jsonl").write_text(text.replace("Is it", "Was it"))
    info = read_info(out)
    info["config"]["prompts"]["path"] = info["stages"]["sample"]["settings"]["prompts"]["path"] = str(
        tmp_path / "asked.jsonl"
    )
    (out / "run.json").write_text(json.dumps(info))
    run = begin(with_rivals(config, put(RIVALS[:1], folder), **{"prompts.path": str(tmp_path / "asked.jsonl")}), out)
    with pytest.raises(InputError, match="is not there as it was sampled: run the sample stage again"):
        run.score()


def test_it_stands_in_every_table(made):
    report, _, folder = made
    with (folder / "rivals.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    stored = pyarrow.parquet.read_table(folder / "rivals.parquet")
    assert stored.schema == store.RIVALS
    assert len(rows) == stored.num_rows == len(report.rivals)
    assert [row["rival"] for row in rows] == [row.rival.vector for row in report.rivals]
    assert float(rows[0]["value"]) == report.rivals[0].difference.value
    for name in ("summary", "prompts", "scores", "measures", "choices", "profile"):
        kinds = pyarrow.parquet.read_table(folder / f"{name}.parquet")["kind"].to_pylist()
        assert "rival" in kinds
    text = format_report(report, title="x", quality={})
    assert "## Steering and its rivals" in text
    assert "Rival told (prepended text): ΔP(A) " in text
    assert "Rival tuned and told (prepended text and another model): " in text
    printed = format_overview(report, title="x")
    assert "steering minus rival " in printed
    assert [line for line in printed.splitlines() if line.split()[:3] == ["told", "–", "–"]]
    assert r"\multicolumn{3}{l}{told (rival)}" in format_latex(report)
    page = make_page(report, report.info)
    assert 'id="rivals-title">Steering and its rivals' in page
    assert "rivals.csv" in page


def test_runs_are_compared_rival_by_rival(made, place, tmp_path):
    report, run, _ = made
    rivals = put(RIVALS[:1], place[0])
    dtype = {"model.dtype": run.network["dtype"]}
    other = begin(with_rivals(place[1], rivals, **dtype, **{"sampling.seed": 5}), tmp_path / "out").all()
    found = clp.compare_reports({"one": report, "two": other})
    cells = {d.cells for d in found if d.cells[0].kind == "rival"}
    assert cells == {(make_rival("told"), make_rival("told"))}


def test_a_plan_counts_its_own_prompt_for_every_rival(made, alone):
    from completions_lp.plan.costs import Workload

    one, two = (Workload.of(r.increases.completions, r.increases.conditions) for r in (made[0], alone[0]))
    assert one.conditions == two.conditions
    assert (one.rivals, two.rivals) == (len(RIVALS), 0)
    more = one.weigh("score", 6, 12, 3) - two.weigh("score", 6, 12, 3)
    nodes = len(two.prefixes) / two.n_prompts
    assert more == pytest.approx(6 * len(RIVALS) * (two.prompt_tokens + nodes))


def test_a_configuration_with_rivals_survives_its_file(tmp_path):
    (tmp_path / "fine").mkdir()
    (tmp_path / "run.toml").write_text('[[rival]]\nname = "a"\nmodel = "fine"\n[[rival]]\nname = "b"\nprepend = "x"\n')
    config = load_config(tmp_path / "run.toml")
    assert config.rival[0].model == str((tmp_path / "fine").resolve())
    assert config.rival[1].prepend == "x"
    assert make_config(json.loads(json.dumps(config.model_dump()))) == config
    assert load_config(None, ["sampling.n=5"], base=config.model_dump()).rival == config.rival
    with pytest.raises(InputError, match=r"\[\[rival\]\] may stand several times; give all of them at once"):
        load_config(None, ["rival.name=3"])


def test_a_rival_adds_nothing_and_is_no_multiplier_zero():
    rival = make_rival("x")
    assert not rival.steers
    assert not BASELINE.steers
    assert rival.multiplier == 1.0
    assert rival.place == "rival x"
