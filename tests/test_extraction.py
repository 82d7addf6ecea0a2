"""Directions by every method and at every place, their quality and spans, against plain arithmetic on hidden states."""

import json

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES
from families import CONFIGS
from runs import do_stages, make_place, read_info
from test_prompts import write

import completions_lp as clp
from completions_lp.job.config import DATA, make_config
from completions_lp.job.outset import check_input
from completions_lp.model import read_lens, read_residuals
from completions_lp.records import (
    Condition,
    ContrastPair,
    InputError,
    Report,
    Span,
    SteeringVector,
    VectorQuality,
    find_edit,
)
from completions_lp.show.figures import say_skipped
from completions_lp.show.text.blocks import format_quality_line, list_quality
from completions_lp.show.text.numbers import DASH
from completions_lp.steer.controls import draw_random_vectors, negate_vector, shuffle_labels
from completions_lp.steer.estimates import FOLDS, estimate, weigh_texts
from completions_lp.steer.quality import place_vectors
from completions_lp.steer.vectors import extract_vector, form_vector, read_differences

METHODS = ("mean_difference", "pca", "lda")


def make_pairs(n=9, *, seed=0, mean="", vocab=320):
    """Pairs of prompts with responses of random tokens, of which the first is shared and the second is the answer."""
    rng = np.random.default_rng(seed)

    def draw(low, high):
        return tuple(rng.integers(2, vocab, size=rng.integers(low, high)).tolist())

    pairs = []
    for i in range(n):
        prompts = (draw(3, 9), draw(3, 9)) if mean == "prompt" else (draw(3, 9),) * 2
        shared = draw(1, 2)
        texts = [p + shared + (4 + (i + side) % 2,) + draw(1, 4) for side, p in enumerate(prompts)]
        starts = [len(p) for p in prompts]
        index = {"": [s + 1 for s in starts], "prompt": [s - 1 for s in starts]}.get(mean, [len(t) - 1 for t in texts])
        pairs.append(ContrastPair(*texts, *index, *starts, 1, mean))
    return pairs


@torch.no_grad()
def hidden_states(module, ids):
    """``[layer, token, d_model]``: what transformers lists, the embedding left out; the last block's is normed."""
    found = module(torch.tensor([list(ids)]), output_hidden_states=True, use_cache=False)
    return np.stack([states[0].double().numpy() for states in found.hidden_states[1:]])


def read_slowly(module, ids, places):
    """``[layer, d_model]``: the mean over some places, one by one."""
    states = hidden_states(module, ids)
    return sum(states[:, place] for place in places) / len(places)


def direct_slowly(positive, negative, method):
    """A direction by its definition, on whole matrices of d_model x d_model; as long as the mean difference."""
    mean = np.mean([p - q for p, q in zip(positive, negative, strict=True)], axis=0)
    if method == "mean_difference":
        return mean
    if method == "pca":
        moment = sum(np.outer(p - q, p - q) for p, q in zip(positive, negative, strict=True))
        found = np.linalg.eigh(moment)[1][:, -1]
    else:
        rows = np.concatenate([positive - positive.mean(0), negative - negative.mean(0)])
        n, d = rows.shape
        covariance = sum(np.outer(row, row) for row in rows) / n
        target = np.trace(covariance) / d * np.eye(d)
        noise = sum(((np.outer(row, row) - covariance) ** 2).sum() for row in rows) / n**2
        spread = ((covariance - target) ** 2).sum()
        shrink = min(noise, spread) / spread
        found = np.linalg.inv((1 - shrink) * covariance + shrink * target) @ mean
    found = found * np.linalg.norm(mean) / np.linalg.norm(found)
    return found if found @ mean >= 0 else -found


def draw_texts(n=8, d=30, *, seed=0, shift=1.0):
    rng = np.random.default_rng(seed)
    spread = np.exp(rng.normal(size=d))
    positive, negative = rng.normal(size=(2, n, d)) * spread + 5
    return positive + shift * rng.normal(size=d), negative


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "d"), [(8, 30), (25, 6), (2, 40), (1, 5)])
def test_a_direction_is_what_its_definition_says(method, n, d):
    positive, negative = draw_texts(n, d)
    if method == "lda" and n == 1:
        np.testing.assert_allclose(estimate(positive, negative, method=method).direction, (positive - negative)[0])
        return
    got = estimate(positive, negative, method=method).direction
    np.testing.assert_allclose(got, direct_slowly(positive, negative, method), atol=1e-9)
    turned = estimate(negative, positive, method=method).direction
    np.testing.assert_allclose(turned, -got, atol=1e-9)
    moved = estimate(positive + 1e3, negative + 1e3, method=method).direction
    np.testing.assert_allclose(moved, got, atol=1e-7)


def test_pca_finds_what_differences_share_even_where_they_hardly_vary():
    """Centred, it would find what they differ in, and not the direction at all."""
    rng = np.random.default_rng(0)
    common, noise = np.eye(20)[0] * 3, 0.5 * rng.normal(size=(40, 20))
    negative = rng.normal(size=(40, 20)) * 10
    got = estimate(negative + common + noise, negative, method="pca").direction
    assert got[0] / np.linalg.norm(got) > 0.99


def test_lda_leaves_out_what_varies_within_a_class():
    rng = np.random.default_rng(1)
    scales = np.array([10.0, *[0.1] * 9])
    positive, negative = rng.normal(size=(2, 300, 10)) * scales
    positive += np.array([5.0, 1.0, *[0.0] * 8])
    mean, whitened = (estimate(positive, negative, method=method) for method in ("mean_difference", "lda"))
    assert abs(mean.direction[0]) > 0.5 * mean.norm
    assert abs(whitened.direction[0]) < 0.2 * whitened.norm
    assert whitened.d_prime > 3 > mean.d_prime > 0
    assert np.linalg.norm(whitened.direction) == pytest.approx(mean.norm)


def test_sides_that_do_not_vary_are_not_whitened():
    positive, negative = np.tile([1.0, 2, 3], (4, 1)), np.zeros((4, 3))
    for method in METHODS:
        got = estimate(positive, negative, method=method)
        np.testing.assert_allclose(got.direction, [1, 2, 3], atol=1e-12)
        assert np.isnan(got.d_prime)
        assert got.pair_cosine == pytest.approx(1)
    nothing = estimate(np.ones((4, 3)), np.ones((4, 3)))
    assert nothing.norm == 0
    assert np.isnan([nothing.pair_cosine, nothing.d_prime, nothing.split_half_cosine]).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [2, 7])
def test_d_prime_is_of_projections_on_vectors_of_other_pairs(method, n):
    positive, negative = draw_texts(n, 12, seed=3)
    assert n <= FOLDS
    sides, middle = [], np.concatenate([positive, negative]).mean(0)
    for i in range(n):
        rest = [k for k in range(n) if k != i]
        direction = direct_slowly(positive[rest], negative[rest], "mean_difference" if n == 2 else method)
        unit = direction / np.sqrt((direction**2).sum())
        sides.append(((positive[i] - middle) @ unit, (negative[i] - middle) @ unit))
    above, below = np.array(sides).T
    want = (above.mean() - below.mean()) / np.sqrt((above.var(ddof=1) + below.var(ddof=1)) / 2)
    assert estimate(positive, negative, method=method).d_prime == pytest.approx(want, rel=1e-6)


def test_held_out_noise_separates_nothing():
    """In the sample itself, the mean difference of noise seems to tell its two sides apart."""
    found, inside = [], []
    for seed in range(40):
        positive, negative = np.random.default_rng(seed).normal(size=(2, 12, 200))
        found.append(estimate(positive, negative).d_prime)
        unit = (positive - negative).mean(0)
        above, below = positive @ unit, negative @ unit
        inside.append((above.mean() - below.mean()) / np.sqrt((above.var(ddof=1) + below.var(ddof=1)) / 2))
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(40)
    assert np.mean(inside) > 3


def test_many_pairs_are_held_out_in_parts():
    positive, negative = draw_texts(3 * FOLDS + 1, 10, shift=0.5)
    one, other = (estimate(positive, negative, method="lda", seed=seed).d_prime for seed in (0, 1))
    assert one == estimate(positive, negative, method="lda").d_prime
    assert one != other
    assert one == pytest.approx(other, rel=0.2)
    alone, again = (estimate(positive, negative, seed=seed).d_prime for seed in (0, 1))
    assert alone == pytest.approx(again, rel=1e-12)  # whose pairs are held out one by one, however many


def test_the_cosine_of_pairs_with_their_mean_is_that():
    positive, negative = draw_texts(6, 9)
    positive[2] = negative[2]  # which has no direction
    mean = (positive - negative).mean(0)
    cosines = [
        (p - q) @ mean / np.linalg.norm(p - q) / np.linalg.norm(mean)
        for i, (p, q) in enumerate(zip(positive, negative, strict=True))
        if i != 2
    ]
    for method in METHODS:
        assert estimate(positive, negative, method=method).pair_cosine == pytest.approx(np.mean(cosines))


@pytest.mark.parametrize("method", METHODS)
def test_halves_are_compared_by_the_method_itself(method):
    positive, negative = draw_texts(4, 12, seed=5)
    halves = [(a, tuple(k for k in range(4) if k not in a)) for a in [(0, 1), (0, 2), (0, 3)]]
    cosines = []
    for one, other in halves:
        v, w = (direct_slowly(positive[list(half)], negative[list(half)], method) for half in (one, other))
        cosines.append(v @ w / np.linalg.norm(v) / np.linalg.norm(w))
    got = estimate(positive, negative, method=method).split_half_cosine
    assert min(cosines) - 1e-9 <= got <= max(cosines) + 1e-9
    assert got == pytest.approx(np.mean(cosines), abs=0.25 * (max(cosines) - min(cosines)) + 1e-9)


def test_weights_of_texts_sum_to_nothing_as_differences_do():
    positive, negative = draw_texts(5, 20)
    texts = np.concatenate([positive, negative])
    for method in METHODS:
        weights = weigh_texts(texts @ texts.T, method, 20)
        assert weights.sum() == pytest.approx(0, abs=1e-9)
        np.testing.assert_allclose(weights @ texts, direct_slowly(positive, negative, method), atol=1e-7)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("mean", ["", "response", "prompt"])
@pytest.mark.usefixtures("exact_softmax")
def test_vectors_equal_plain_arithmetic_on_hidden_states(build_model, architecture, mean):
    model, pairs = build_model(architecture, dtype=torch.float64), make_pairs(6, mean=mean)
    layers, sides = range(model.n_layers - 1), []
    for side in ("positive", "negative"):
        texts = []
        for pair in pairs:
            ids, start = getattr(pair, side), getattr(pair, f"{side}_start")
            places = {"": [start + 1], "response": range(start, len(ids)), "prompt": range(start)}[mean]
            texts.append(read_slowly(model.module, ids, list(places)))
        sides.append(np.stack(texts, 1))
    for method in METHODS:
        vector = extract_vector(model, pairs, method=method, layers=layers, batch_size=4, progress=False)
        for layer in layers:
            slow = direct_slowly(sides[0][layer], sides[1][layer], method)
            tolerance = 1e-8 * np.abs(slow).max()
            np.testing.assert_allclose(vector.directions[layer], slow, rtol=0, atol=tolerance, err_msg=method)
            unit, span = slow / np.linalg.norm(slow), vector.spans[layer]
            above, below = (sides[side][layer].mean(0) @ unit for side in (0, 1))
            assert span.centre == pytest.approx((above + below) / 2, rel=1e-7, abs=1e-9)
            assert span.scale == pytest.approx((above - below) / 2, rel=1e-7)


def test_means_of_ranges_are_taken_within_the_pass_for_any_rows(build_model):
    model = build_model("llama", dtype=torch.float64)
    texts = [[5, 6, 7, 8, 9], [4, 3, 2]]
    places = [(1, 4), 2, (0, 3), (0, 1)]
    got = read_residuals(model, texts, places, [0, 2], rows=[0, 0, 1, 1]).numpy()
    for place, row, ids in zip(range(4), (0, 0, 1, 1), (texts[0],) * 2 + (texts[1],) * 2, strict=True):
        start, stop = places[place] if isinstance(places[place], tuple) else (places[place], places[place] + 1)
        for k, layer in enumerate((0, 2)):
            single = [read_residuals(model, [ids], [t], [layer]).numpy()[0, 0] for t in range(start, stop)]
            np.testing.assert_allclose(got[k, place], np.mean(single, axis=0), atol=1e-12, err_msg=str(row))


@pytest.mark.parametrize("architecture", sorted(CONFIGS))
@pytest.mark.usefixtures("exact_softmax")
def test_the_lens_at_the_last_layer_is_the_model_itself(build_model, architecture):
    model = build_model(architecture, dtype=torch.float64)
    text = [5, 9, 2, 30, 8]
    states = read_residuals(model, [text], [3], [model.n_layers - 1])[0]
    with torch.no_grad():
        logits = model.module(torch.tensor([text]), use_cache=False).logits[0, 3].double()
    best = int(logits.argmax())
    other = (best + 1) % len(logits)
    found = read_lens(model, torch.cat([states, states]), [(best, other), (other, best)]).numpy()
    odds = float(logits[best] - logits[other])
    np.testing.assert_allclose(found, [[1, odds], [0, -odds]], atol=1e-9)


def test_the_lens_reads_every_layer_by_final_norm_and_head(build_model):
    model, pairs = build_model("llama", dtype=torch.float64), make_pairs(5)
    vector, module = extract_vector(model, pairs, batch_size=2, progress=False), model.module
    for layer in range(model.n_layers - 1):
        hits, odds = [], []
        for pair in pairs:
            at = pair.positive_start + 1
            state = torch.tensor(hidden_states(module, pair.positive)[layer, at - 1])
            with torch.no_grad():
                logits = module.lm_head(module.model.norm(state[None]))[0]
            hits.append(int(logits.argmax()) == pair.positive[at])
            odds.append(float(logits[pair.positive[at]] - logits[pair.negative[at]]))
        assert vector.quality[layer].lens_accuracy == np.mean(hits)
        assert vector.quality[layer].lens_odds == pytest.approx(np.mean(odds), rel=1e-9)


def test_pairs_without_answers_have_no_lens(build_model):
    plain = [ContrastPair((3, 4, 5), (3, 4, 6), 2, 2), ContrastPair((7, 4, 5), (7, 4, 6), 2, 2)]
    model = build_model("llama")
    before = model.usage.passes
    vector = extract_vector(model, plain, progress=False)
    assert model.usage.passes == before + 1
    assert np.isnan([vector.quality[1].lens_accuracy, vector.quality[1].lens_odds]).all()
    some = extract_vector(model, [*plain, *make_pairs(3)], progress=False).quality[1]
    alone = extract_vector(model, make_pairs(3), progress=False).quality[1]
    assert (some.lens_accuracy, some.lens_odds) == pytest.approx((alone.lens_accuracy, alone.lens_odds), rel=1e-4)


def test_batches_change_no_direction(build_model):
    model, pairs = build_model("llama", dtype=torch.float64), make_pairs(7, mean="response")
    for method in METHODS:
        whole, parts = (extract_vector(model, pairs, method=method, batch_size=size, progress=False) for size in (7, 2))
        for layer in whole.directions:
            np.testing.assert_allclose(parts.directions[layer], whole.directions[layer], atol=1e-9)


def test_controls_lie_where_the_same_texts_do_and_move_as_far(build_model):
    model = build_model("llama", dtype=torch.float64)
    differences = read_differences(model, make_pairs(6), progress=False)
    target = form_vector(differences)
    made = (
        target,
        negate_vector(target),
        *draw_random_vectors(target, 2, seed=0),
        *shuffle_labels(differences, target, 1, seed=0),
    )
    placed = place_vectors(made, differences.layers, differences.average_sides())
    assert [v.name for v in placed] == [v.name for v in made]
    texts = differences.sides[:, 1].mean((0, 1))
    for vector in placed:
        unit = vector.directions[1] / np.linalg.norm(vector.directions[1])
        assert vector.spans[1].centre == pytest.approx(texts @ unit)
        assert vector.spans[1].scale == target.spans[1].scale
    assert placed[0].spans == target.spans
    alone = negate_vector(target).spans[1]
    assert (alone.centre, alone.scale) == pytest.approx((placed[1].spans[1].centre, placed[1].spans[1].scale))


def test_the_negated_vector_clamped_is_the_target_clamped_the_other_way(build_model):
    target = extract_vector(build_model("llama"), make_pairs(5), progress=False)
    negated = negate_vector(target)
    one = find_edit(target, Condition(target.name, "target", 1, -1.5, operation="clamp"), 1)
    other = find_edit(negated, Condition(negated.name, "negated", 1, 1.5, operation="clamp"), 1)
    np.testing.assert_allclose(one.added, other.added, atol=1e-6)
    np.testing.assert_allclose(one.unit, -other.unit)


def test_a_text_clamped_to_one_lies_where_positive_texts_do(build_model):
    model = build_model("llama", dtype=torch.float64)
    differences = read_differences(model, make_pairs(5), progress=False)
    target = form_vector(differences)
    unit = target.directions[1] / np.linalg.norm(target.directions[1])
    for multiplier, side in ((1.0, 0), (-1.0, 1)):
        edit = find_edit(target, Condition("vector", "target", 1, multiplier, operation="clamp"), 1)
        state = differences.sides[0, 1, 3]
        moved = state + edit.added - edit.share * (edit.unit @ state) * edit.unit
        assert moved @ unit == pytest.approx(differences.sides[side, 1].mean(0) @ unit)


def test_lda_of_one_pair_is_refused(build_model):
    with pytest.raises(InputError, match=r'method = "lda" whitens by .* there is one contrast pair; give two or more'):
        extract_vector(build_model("llama"), make_pairs(1), method="lda", progress=False)


ROW = {"question": "Is it?", "answer_matching_behavior": " (A)", "answer_not_matching_behavior": " (B)"}
SIDES = {
    "positive": {"prompt": "Be kind. Hello?", "response": "Yes, gladly"},
    "negative": {"prompt": "Be rude. Hello there?", "response": "No"},
}


@pytest.fixture
def pair_up(tmp_path, tokenizer):
    return lambda rows, **options: clp.load_pairs(write(tmp_path, rows), tokenizer, **options)


def test_pairs_know_where_their_responses_start_and_part(pair_up, tokenizer):
    (pair,) = pair_up([ROW])
    before, ours, theirs = pair.answers
    assert tokenizer.decode(pair.positive[: pair.positive_start]) == "Is it?\n\nAnswer:"
    assert before == pair.positive_index - 1
    assert ("A" in tokenizer.decode([ours]), "B" in tokenizer.decode([theirs])) == (True, True)
    assert pair.spans == ((before + 1, before + 2),) * 2
    assert pair_up([ROW], read_token="last")[0].answers == pair.answers
    (plain,) = pair_up([{"positive": "one", "negative": "two"}])
    assert (plain.positive_start, plain.part, plain.answers) == (None, None, None)


def test_means_are_over_the_whole_response_or_the_whole_prompt(pair_up, tokenizer):
    (pair,) = pair_up([SIDES], read_token="response_mean")
    for ids, (start, stop), text in zip((pair.positive, pair.negative), pair.spans, ("Yes, gladly", "No"), strict=True):
        assert tokenizer.decode(ids[start:stop]).strip() == text
        assert stop == len(ids)
    (pair,) = pair_up([SIDES], read_token="prompt_mean")
    texts = [tokenizer.decode(i[a:b]) for i, (a, b) in zip((pair.positive, pair.negative), pair.spans, strict=True)]
    assert texts == ["Be kind. Hello?\n\nAnswer:", "Be rude. Hello there?\n\nAnswer:"]
    assert pair_up([ROW], read_token="response_mean")[0].mean == "response"


@pytest.mark.parametrize(
    ("row", "read_token", "message"),
    [
        (
            ROW,
            "prompt_mean",
            r"line 1: read_token is 'prompt_mean', and both texts have one prompt, so their difference",
        ),
        ({"positive": "a", "negative": "b"}, "response_mean", "line 1: read_token is 'response_mean', and plain texts"),
        (ROW, "mean", r"read_token is 'mean'; needs 'letter', 'last', 'response_mean', 'prompt_mean' or an index"),
    ],
)
def test_places_that_are_not_there_are_refused(pair_up, row, read_token, message):
    with pytest.raises(InputError, match=message):
        pair_up([row], read_token=read_token)


def test_what_a_pair_is_hashed_by_is_what_is_read_of_it():
    (pair,) = make_pairs(1)
    old = {name: getattr(pair, name) for name in ("positive", "negative", "positive_index", "negative_index")}
    assert pair.describe() == old
    (mean,) = make_pairs(1, mean="response")
    assert mean.describe()["spans"] == mean.spans


def test_files_keep_quality_and_spans(tmp_path, build_model):
    from completions_lp import store

    vector = extract_vector(build_model("llama"), make_pairs(5), method="pca", progress=False)
    back = store.read_vector(store.write_vector(tmp_path, vector))
    assert back.spans == vector.spans
    assert back.quality == vector.quality
    assert back.provenance["method"].startswith("first principal component of the pairs' differences, uncentred")
    bare = SteeringVector("bare", "target", vector.directions)
    assert store.read_vector(store.write_vector(tmp_path, bare)).spans == {}


@pytest.mark.parametrize("spans", ["x", '{"0": {"centre": 1.0}}', '{"0": {"centre": 1.0, "scale": null}}'])
def test_malformed_spans_are_refused(tmp_path, spans):
    import safetensors.numpy

    from completions_lp import store

    path = tmp_path / "v.safetensors"
    safetensors.numpy.save_file({"layer.0": np.ones(3, np.float32)}, path, metadata={"spans": spans})
    with pytest.raises(InputError, match="its metadata have spans that are not JSON of centre, scale by layer"):
        store.read_vector(path)


def test_a_run_makes_vectors_by_its_method_and_place(tmp_path, tokenizer):
    from completions_lp import store

    config = make_place(tmp_path, tokenizer)
    config["vector"] = {**config["vector"], "method": "lda", "read_token": "response_mean"}
    config["controls"] = {**config.get("controls", {}), "negated": True, "shuffled_labels": 1}
    do_stages(config, tmp_path / "out")
    target, *controls = store.read_vectors(tmp_path / "out")
    assert target.provenance["read_token"] == "response_mean"
    assert target.provenance["method"].startswith("difference of class means whitened")
    for control in controls:
        if control.kind != "rounding":
            assert {layer: span.scale for layer, span in control.spans.items()} == {
                layer: span.scale for layer, span in target.spans.items()
            }
    assert target.quality[0].lens_accuracy >= 0
    assert read_info(tmp_path / "out")["stages"]["vector"]["settings"]["vector"]["method"] == "lda"


def test_a_finished_vector_has_no_method():
    with pytest.raises(InputError, match=r"\[vector\] method is 'pca', by which a vector is made of contrast pairs"):
        make_config({"vector": {"path": "v.safetensors", "method": "pca"}})
    with pytest.raises(InputError, match=r"method is 'median'"):
        make_config({"vector": {"method": "median"}})


def test_one_pair_is_too_few_for_lda_before_any_model_is_loaded(tmp_path):
    rows = (DATA / "pairs" / "cautious.jsonl").read_text().splitlines()[:1]
    (tmp_path / "one.jsonl").write_text("\n".join(rows))
    config = make_config({"vector": {"pairs": str(tmp_path / "one.jsonl"), "method": "lda"}})
    with pytest.raises(InputError, match='method = "lda" whitens'):
        check_input(config, ["vector"])


def test_tables_show_what_of_the_quality_is_known():
    whole = VectorQuality(2.0, 0.5, 0.75, 0.3, 1.25, 0.5, -0.1)
    columns = {column.head: column.cells for column in list_quality({0: whole, 2: VectorQuality(1.0, 0.1, 0.9)})}
    assert columns["d′"] == ("1.250", DASH)
    assert columns["lens accuracy"] == ("0.500", DASH)
    assert columns["pair cosine"] == ("0.300", DASH)
    old = [column.head for column in list_quality({0: VectorQuality(2.0, np.nan, np.nan)})]
    assert old == ["layer", "norm", "± s.e.", "split-half cosine"]
    line = format_quality_line({0: whole, 2: VectorQuality(1.0, 0.1, 0.9, 0.4, 3.0)})
    assert line.endswith("; held-out d′ from 1.25 (layer 0) to 3.00 (layer 2).")
    assert "d′" not in format_quality_line({0: VectorQuality(2.0, 0.5, 0.75)})


def test_a_report_without_quality_has_no_such_figure():
    assert say_skipped("quality", Report("A", (), {}, {})) == (
        "figure quality: left out, since the file of the run's vector does not say how well it is known"
    )
    assert not say_skipped("quality", Report("A", (), {}, {}, quality={0: VectorQuality(1.0, 0.1, 0.9)}))


def test_the_embedded_models_vector_tells_its_pairs_apart():
    model = clp.load_model(DATA / "tiny-chooser", dtype="float32")
    pairs = clp.load_pairs(DATA / "pairs" / "cautious.jsonl", model.tokenizer)[:60]
    found = {method: extract_vector(model, pairs, method=method, progress=False) for method in METHODS}
    for vector in found.values():
        assert vector.quality[2].lens_accuracy == 1  # where the model has made up its mind, which A_lin sees
        assert vector.spans[2].scale > 0
        assert np.linalg.norm(vector.directions[2]) == pytest.approx(found["pca"].quality[2].norm)
    assert found["lda"].quality[2].d_prime > found["mean_difference"].quality[2].d_prime > 1
    assert json.dumps({layer: vars(q) for layer, q in found["lda"].quality.items()})
    assert isinstance(found["pca"].spans[0], Span)
