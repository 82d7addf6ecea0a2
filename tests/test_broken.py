"""Log probs that are no finite numbers: counted, told, and never part of a mean; finite ones, however large, are."""

import dataclasses
import math

import numpy as np
import pytest
import scored
import torch
from conftest import make_module, make_prompts, random_completions
from drawn import change, draw_choices, draw_increases, draw_measures, list_conditions

from completions_lp import store
from completions_lp.model import wrap_model
from completions_lp.model.head import Head
from completions_lp.model.reading import Reader
from completions_lp.records import (
    BASELINE,
    Choices,
    ContrastPair,
    Increases,
    InputError,
    Measures,
    NotFinite,
    Sampling,
    Scores,
    SteeringVector,
)
from completions_lp.report import summarize
from completions_lp.report.comparison import compare_reports
from completions_lp.report.prompts import count_broken
from completions_lp.sample.draws import sample_completions
from completions_lp.score.choices import read_choices
from completions_lp.score.grid import score_tokens
from completions_lp.score.measures import measure_completions
from completions_lp.score.profile import profile_tokens, summarize_profile
from completions_lp.score.sums import sum_tokens
from completions_lp.show.figures.heatmap import Heatmap
from completions_lp.steer.conditions import make_conditions
from completions_lp.steer.vectors import extract_vector

BAD = [math.nan, math.inf, -math.inf]
COUNTED = ("n_steered", "n_broken")
PER_PROMPT = 5


def break_sums(increases, cells):
    """Under the condition c, every completion of these prompts loses its increase."""
    parts = {name: getattr(increases, name).copy() for name in Increases.PARTS}
    for c, prompts in cells.items():
        for values in parts.values():
            values[c, np.isin(increases.completions.prompt_index, prompts)] = np.nan
    return dataclasses.replace(increases, **parts)


def drop(record, cells):
    """A record without these conditions."""
    keep = [c for c in range(len(record.conditions)) if c not in cells]
    conditions = tuple(record.conditions[c] for c in keep)
    if isinstance(record, Measures):
        steered = {name: values[keep] for name, values in record.steered.items()}
        return dataclasses.replace(record, conditions=conditions, steered=steered, trust=record.trust[keep])
    names = ("logprob",) if isinstance(record, Choices) else Increases.PARTS
    return dataclasses.replace(record, conditions=conditions, **{name: getattr(record, name)[keep] for name in names})


def make(n=24, **options):
    increases = draw_increases(n, list_conditions(**options))
    return increases, draw_choices(increases), draw_measures(increases)


def same(one, other):
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


def flatten(row):
    return [*vars(row.estimate).values(), row.n_dropped, *vars(row.inference).values()]


def key(row):
    return row.condition, row.quantity, row.weighting, row.split


# Broken: the target's strongest cell on 5 prompts and another on one; a random direction; every cell of a layer.
PLACES = {
    "two cells of the vector": lambda conditions: {4: [3, 4, 9, 10, 11], 8: [0]},
    "a random direction": lambda conditions: {conditions.index(next(c for c in conditions if c.kind == "random")): [2]},
    "a layer": lambda conditions: {i: [7] for i, c in enumerate(conditions) if c.kind == "target" and c.layer == 1},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_report_with_broken_cells_is_the_report_of_the_other_cells(place):
    records = make(n_random=20, n_shuffled=2)
    cells = PLACES[place](records[0].conditions)
    got = summarize(break_sums(records[0], cells), *records[1:])
    want = {key(row): row for row in summarize(*(drop(record, cells) for record in records)).rows}
    broken = {records[0].conditions[c]: len(prompts) for c, prompts in cells.items()}
    seen = set()
    for row in got.rows:
        if row.condition in broken:
            seen.add(row.condition)
            assert row.split == "all"
            if row.quantity == "share_broken":
                assert (row.estimate.value, row.estimate.n) == (broken[row.condition] / 24, 24)
                continue
            assert math.isnan(row.estimate.value)
            assert row.estimate.low is None
            assert row.n_dropped == 24
            if not row.quantity.endswith("_odd"):
                assert row.estimate.method == f"not finite on {broken[row.condition]} of 24 prompts"
            assert np.isnan(list(vars(row.inference).values())).all()
        elif row.quantity == "share_broken":
            assert row.estimate.value == 0
        elif key(row) not in want:  # the other sign is broken
            assert row.quantity.endswith("_odd")
            assert math.isnan(row.estimate.value)
        else:
            one = want.pop(key(row))
            assert all(map(same, flatten(row), flatten(one))), (row, one)
    assert not want
    assert seen == set(broken)
    others = summarize(*(drop(record, cells) for record in records))
    assert got.best == others.best
    assert [slope for slope in got.slopes if slope.multipliers] == list(others.slopes)
    assert same(got.checks["p_rank_sweep"], others.checks["p_rank_sweep"])
    assert got.checks["share_red"] == others.checks["share_red"]


def test_what_is_broken_is_told_with_its_place_and_what_to_do():
    increases, choices, measures = make(n_random=1)
    got = summarize(break_sums(increases, {4: [3, 4, 9], 9: [0], 11: [1]}), choices, measures)
    (told,) = [line for line in got.errors if "log probs" in line]
    assert told.startswith(
        "v, layer 0, multiplier +2: 3 of 24 prompts; v, layer 1, multiplier +2: 1 of 24 prompts; v-random-0, layer 0, "
        "multiplier -1: 1 of 24 prompts have log probs that are not finite; "
    )
    assert 'use smaller multipliers, or [model] dtype = "float32"' in told
    assert "\n" not in told
    got = summarize(break_sums(increases, {c: [3] for c in range(10)}), choices, measures)
    assert "and 4 more cells have log probs that are not finite" in got.errors[0]
    assert got.best is None
    only = summarize(break_sums(increases, {4: [3]}), choices, measures).errors[0]
    assert only.startswith("layer 0, multiplier +2: 1 of 24 prompts have log probs that are not finite; ")
    assert summarize(increases, choices, measures).errors == ()


def test_the_prompts_of_a_broken_cell_that_are_sound_keep_their_numbers():
    records = make()
    sound, got = summarize(*records), summarize(break_sums(records[0], {4: [3, 7]}), *records[1:])
    broken = np.zeros((10, 24), dtype=bool)
    broken[4, [3, 7]] = True
    unsteered = {"prompt_id", "cluster", "vector", "kind", "layer", "multiplier", "positions", "n", "n_unique", "n_A"}
    unsteered |= {"operation", "layers", "dose"}
    unsteered |= {"share_A", "share_uncommitted", "share_cut_off", "answered", *Measures.UNSTEERED}
    counts = records[0].completions.counts.reshape(24, PER_PROMPT).sum(1)
    assert got.prompts["n_broken"].reshape(10, 24)[broken].tolist() == counts[[3, 7]].tolist()
    assert (got.prompts["n_broken"].reshape(10, 24)[~broken] == 0).all()
    for name in got.prompts.keys() - {"n_broken", "n_steered"}:
        one, other = np.asarray(got.prompts[name]).reshape(10, 24), np.asarray(sound.prompts[name]).reshape(10, 24)
        if name in unsteered:
            np.testing.assert_array_equal(one, other, err_msg=name)
        else:
            np.testing.assert_array_equal(one[~broken], other[~broken], err_msg=name)
            assert all(value == "" if name == "trust" else np.isnan(value) for value in one[broken]), name


@pytest.mark.parametrize("value", BAD)
def test_a_read_out_that_is_no_number_breaks_its_cell(value):
    increases, choices, measures = make()
    logprob = choices.logprob.copy()
    logprob[3, 5, 1] = value
    got = summarize(increases, dataclasses.replace(choices, logprob=logprob), measures)
    assert got.prompts["n_broken"].reshape(10, 24)[3, 5] == 1
    row = next(r for r in got.table("logit_diff_change", kind=None) if r.condition == choices.conditions[3])
    assert row.estimate.method == "not finite on 1 of 24 prompts"
    assert "layer 0, multiplier +1: 1 of 24 prompts have log probs that are not finite" in got.errors[0]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("where", ["sums", "measures"])
def test_without_finite_unsteered_scores_nothing_but_counts_is_known(value, where):
    increases, choices, measures = make()
    if where == "sums":
        baseline = increases.baseline.copy()
        baseline[5 * PER_PROMPT] = value
        increases = dataclasses.replace(increases, baseline=baseline)
    else:  # what a stored run tells
        columns = {name: values.copy() for name, values in measures.unsteered.items()}
        for name in columns.keys() - {"n_tokens"}:
            columns[name][5] = np.nan
        n_broken = np.zeros((10, 24))
        n_broken[:, 5] = 1
        measures = change(measures, **columns, n_broken=n_broken)
    got = summarize(increases, choices, measures)
    for row in got.rows:
        known = row.quantity in ("share_broken", "share_A", "share_uncommitted", "share_cut_off", "n_tokens")
        assert np.isfinite(row.estimate.value) == known, row
        if row.condition == BASELINE and not known:
            assert row.estimate.method == "not finite on 1 of 24 prompts"
    assert any("1 of 24 prompts and 4 more cells have log probs" in line for line in got.errors)


def test_an_infinite_quantity_is_left_out_alone():
    increases, choices, measures = make()
    reverse = measures.steered["kl_reverse"].copy()
    reverse[4, 3] = np.inf
    got = summarize(increases, choices, change(measures, kl_reverse=reverse))
    sound = summarize(increases, choices, measures)
    for row, other in zip(got.rows, sound.rows, strict=True):
        if (row.quantity, row.condition) == ("kl_reverse", increases.conditions[4]) and row.split == "all":
            assert math.isnan(row.estimate.value)
            assert row.estimate.method == "not finite on 1 of 24 prompts"
        elif row.split == "all":
            assert all(map(same, flatten(row), flatten(other)))
    (told,) = set(got.warnings) - set(sound.warnings)
    assert told.startswith("KL(q‖p) is infinite: layer 0, multiplier +2: 1 of 24 prompts; it is left out")


def test_a_broken_cell_compares_with_nothing():
    records = make()
    sound = summarize(*records)
    broken = summarize(break_sums(records[0], {4: [3]}), *records[1:])
    for difference in compare_reports({"a": sound, "b": broken}):
        lost = records[0].conditions[4] == difference.cells[1]
        assert math.isnan(difference.difference.value) == lost
        assert math.isnan(difference.values[1].value) == lost


def test_a_map_shows_a_broken_cell_as_missing():
    records = make()
    shown = Heatmap.of(summarize(break_sums(records[0], {4: [3]}), *records[1:]))
    (row,) = [row for row in shown.rows if not np.isfinite(row["value"])]
    assert (row["layer"], row["multiplier"]) == (0, 2.0)
    assert "Grey: no value" in shown.caption
    assert "Grey" not in Heatmap.of(summarize(*records)).caption


# From tokens to sums, measures and profile.


def make_tokens(value, at, *, what="logprob"):
    """Scores of three prompts; under condition 1 (or unsteered), one token of one text of prompt 1 is no number."""
    worlds = [scored.make_world(seed, (1.0, -1.0, 2.0), steps=3) for seed in range(3)]
    scores = scored.make_scores(worlds, within=3, target="A")
    row = int(scores.completions.rows_of(1)[4])
    values = getattr(scores, what).copy()
    values[(1, row, at) if what == "logprob" else (row, at)] = value
    return scores, dataclasses.replace(scores, **{what: values}), row


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("what", ["logprob", "baseline"])
def test_only_the_prompt_and_condition_of_a_token_that_is_no_number_are_lost(value, what):
    sound, broken, row = make_tokens(value, 0, what=what)
    measures, want = measure_completions(broken, target="A"), measure_completions(sound, target="A")
    lost = np.zeros((3, 3), dtype=bool)
    lost[slice(None) if what == "baseline" else 1, 1] = True
    for name, values in measures.steered.items():
        np.testing.assert_array_equal(values[~lost], want.steered[name][~lost], err_msg=name)
        if name == "n_broken":
            assert (values == np.where(lost, sound.completions.counts[row], 0)).all()
        elif name not in COUNTED:
            assert np.isnan(values[lost]).all(), name
    np.testing.assert_array_equal(measures.trust, np.where(lost, "", want.trust))
    for name, values in measures.unsteered.items():
        gone = what == "baseline" and name != "n_tokens"
        np.testing.assert_array_equal(values, np.where([False, gone, False], np.nan, want.unsteered[name]))
    sums, whole = sum_tokens(broken), sum_tokens(sound)
    for name in Increases.PARTS:
        one, other = getattr(sums, name).copy(), getattr(whole, name)
        assert np.isnan(one[lost[:, 1], row]).all()
        one[lost[:, 1], row] = other[lost[:, 1], row]
        np.testing.assert_array_equal(one, other)
    profile, told = profile_tokens(broken, target="A"), profile_tokens(sound, target="A")
    np.testing.assert_array_equal(profile.increase, np.where(lost[..., None], np.nan, told.increase))
    for one, other in zip(summarize_profile(profile), summarize_profile(told), strict=True):
        if lost[profile.conditions.index(one.condition)].any():
            assert math.isnan(one.estimate.value)
        else:
            assert one == other or math.isnan(one.estimate.value)
    np.testing.assert_array_equal(count_broken(sums, measures, None) > 0, lost)


@pytest.mark.parametrize("value", BAD)
def test_past_its_end_a_completion_has_no_score_to_break(value):
    sound, _, _ = make_tokens(0.0, 0)
    values = sound.logprob.copy()
    values[:, ~sound.completions.mask] = value
    assert (~sound.completions.mask).any()
    got = measure_completions(dataclasses.replace(sound, logprob=values), target="A")
    assert (got.steered["n_broken"] == 0).all()


@pytest.mark.parametrize(("before", "after"), [(-2.0, -1e4), (-1e4, -2.0), (-2.0, -800.0), (-1e4, -1e4)])
@pytest.mark.parametrize("watch", [True, False])
def test_finite_numbers_however_large_overflow_nowhere(before, after, watch):
    """Under pytest a numpy warning is an error."""
    worlds = [scored.make_world(seed, (1.0, -1.0), steps=3) for seed in range(8)]
    scores = scored.make_scores(worlds, within=3, target="A", watch=watch)
    mask = scores.completions.mask
    scores = dataclasses.replace(
        scores,
        baseline=np.where(mask, np.minimum(scores.baseline, before), np.nan),
        logprob=np.where(mask, np.minimum(scores.logprob, after), np.nan),
    )
    measures = measure_completions(scores, target="A")
    assert (measures.steered["n_broken"] == 0).all()
    for name, values in measures.steered.items():
        if name.startswith("p_A_steered") and not name.endswith("_se"):
            assert ((values >= 0) & (values <= 1)).all(), name
    got = summarize(Scores(sum_tokens(scores), measures, profile_tokens(scores, target="A")), target="A")
    row = got.estimate("increase_all", scores.conditions[0])
    assert np.isfinite(row.value)
    assert not any("not finite" in line for line in got.errors)


def test_a_stored_run_with_broken_cells_gives_the_same_report(tmp_path):
    increases, _, measures = make()
    increases = break_sums(increases, {0: [3, 4], 4: [9]})
    store.write_increases(tmp_path, increases)
    read = store.read_increases(tmp_path, increases.completions)
    assert np.isfinite(read.baseline).all()
    np.testing.assert_allclose(read.baseline, increases.baseline, atol=1e-12)
    got, want = summarize(read, None, measures), summarize(increases, None, measures)
    assert got.errors == want.errors
    every = break_sums(increases, {c: [3] for c in range(10)})
    store.write_increases(tmp_path, every)
    np.testing.assert_allclose(store.read_increases(tmp_path, every.completions).baseline, -3.0, atol=1e-12)


# From the model.


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("positions", ["completion", "all"])
def test_an_overflow_in_the_model_breaks_its_own_conditions_alone(build_model, engine, positions):
    model = build_model()
    sizes = {layer: (1.0 if layer == 0 else 1e30) * np.ones(model.d_model) for layer in range(model.n_layers)}
    loud = SteeringVector("v", "target", sizes)
    completions = random_completions(make_prompts(), per_prompt=4)
    options = {"kl": True, "target": "matching", "engine": engine, "progress": False}
    conditions = make_conditions([loud], multipliers=(-1.0, 1e10), positions=positions)
    scores = score_tokens(model, completions, [loud], conditions, **options)
    calm = [c for c in conditions if c.layer == 0 and c.multiplier == -1]
    want = score_tokens(model, completions, [loud], calm, **options)
    mask = completions.mask
    at = conditions.index(calm[0])
    np.testing.assert_allclose(scores.logprob[at][mask], want.logprob[0][mask], atol=1e-3)
    np.testing.assert_allclose(scores.kl[at][mask], want.kl[0][mask], atol=1e-3)
    np.testing.assert_allclose(scores.baseline[mask], want.baseline[mask], atol=1e-3)
    measures = measure_completions(scores)
    last = [i for i, c in enumerate(conditions) if c.multiplier == 1e10 and c.layer > 0]
    assert (measures.steered["n_broken"][last] > 0).all()
    assert (measures.steered["n_broken"][at] == 0).all()
    choices = read_choices(model, completions.prompts, [loud], conditions, engine=engine, progress=False)
    assert np.isfinite(choices.logprob[at]).all()
    assert not np.isfinite(choices.logprob[last]).any()
    got = summarize(sum_tokens(scores), choices, measures)
    assert any("have log probs that are not finite" in line for line in got.errors)


@pytest.mark.parametrize("bad", BAD)
def test_a_broken_row_of_a_block_leaves_the_others_to_the_last_bit(bad):
    torch.manual_seed(0)
    head = Head(torch.randn(300, 16), False, None, torch.float32)
    hidden = torch.randn(3, 5, 16)
    want = head.reduce(hidden.clone(), divergences=True)
    broken = hidden.clone()
    broken[2, 3] = bad
    got = head.reduce(broken, divergences=True)
    assert not bool(torch.isfinite(got["lse"][2, 3]))
    for name, values in got.items():
        sound = torch.ones(values.shape, dtype=torch.bool)
        if name != "entropy":
            sound[2, 3] = False
        assert bool((values[sound] == want[name][sound]).all()), name


def test_a_token_that_cannot_come_adds_nothing_to_divergences():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    nodes, tokens = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.long)
    reader = Reader(1, nodes, tokens, None, divergences=True)
    want = reader.read_logits(logits)
    never = torch.full((2, 3, 2), -math.inf, dtype=torch.float64)
    got = reader.read_logits(torch.cat([logits, never], -1))
    for name, values in got.items():
        torch.testing.assert_close(values, want[name], rtol=0, atol=1e-12)


def sample(model, engine, **options):
    sampling = Sampling(n=6, max_new_tokens=3, **options)
    return sample_completions(model, make_prompts(), sampling=sampling, engine=engine, progress=False)


@pytest.mark.parametrize("engine", ["tree", "rows"])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"greedy": True}])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_is_drawn_from_logits_that_are_no_numbers(tokenizer, engine, options, bad):
    module = make_module("llama")
    model = wrap_model(module, tokenizer, name="llama")
    sample(model, engine, **options)
    with torch.no_grad():
        module.model.norm.weight[3] = bad
    with pytest.raises(NotFinite, match=r"prompt 'p2': the unsteered model gives logits that are not finite") as caught:
        sample(model, engine, **options)
    assert caught.value.prompt_id == "p2"
    assert '[model] dtype = "float32"' in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("engine", ["tree", "rows"])
def test_a_steered_model_without_numbers_is_named_by_its_layer(build_model, engine):
    model = build_model()
    loud = SteeringVector("v", "target", {1: np.full(model.d_model, 1e38)})
    (condition,) = make_conditions([loud], multipliers=(1e10,))
    with pytest.raises(NotFinite, match=r"the model steered at layer 1 gives logits .* or a smaller multiplier"):
        sample_completions(
            model,
            make_prompts(),
            sampling=Sampling(n=4, max_new_tokens=2),
            vectors=[loud],
            condition=condition,
            engine=engine,
            progress=False,
        )


# Vectors.


def test_a_vector_of_zeros_is_told_before_the_model_runs(build_model):
    with pytest.raises(InputError, match="vector 'v' is zero in every layer, so it steers nothing"):
        SteeringVector("v", "target", {0: np.zeros(3), 2: np.zeros(3)})
    model = build_model()
    partly = SteeringVector("v", "target", {0: np.zeros(model.d_model), 1: np.ones(model.d_model)})
    completions, before = random_completions(make_prompts()), model.usage.tokens
    for layers, fails in (([0, 1], True), ([1], False)):
        conditions = make_conditions([partly], multipliers=(0.0, 1.0), layers=layers)
        if fails:
            with pytest.raises(InputError, match="vector 'v' is zero at layer 0, so it steers nothing there; leave"):
                score_tokens(model, completions, [partly], conditions, progress=False)
            assert model.usage.tokens == before
        else:
            score_tokens(model, completions, [partly], conditions, progress=False)
    pair = ContrastPair((1, 2, 3), (1, 2, 3), 2, 2)
    with pytest.raises(InputError, match="is zero in every layer"):
        extract_vector(model, [pair], progress=False)


def test_a_vector_too_large_for_a_file_is_refused():
    with pytest.raises(InputError, match=r"vector 'v' has a value of 1e\+308, more than float32 holds"):
        SteeringVector("v", "target", {0: np.array([1.0, -1e308])}).round()


def test_a_contrast_pair_without_numbers_is_named(tokenizer):
    module = make_module("llama")
    model = wrap_model(module, tokenizer, name="llama")
    with torch.no_grad():
        module.model.embed_tokens.weight[7] = math.nan
    pairs = [ContrastPair((1, 2, 3), (1, 2, 4), 2, 2), ContrastPair((1, 7), (1, 8), 1, 1)]
    with pytest.raises(InputError, match="contrast pair 2: the residual stream after layer 0 is not finite"):
        extract_vector(model, pairs, progress=False)
