import numpy as np
import pytest
import reference
import torch
from conftest import ARCHITECTURES, make_vector

from completions_lp.records import ContrastPair, InputError, SteeringVector
from completions_lp.steer.controls import draw_random_vectors, negate_vector, remove_direction, shuffle_labels
from completions_lp.steer.estimates import estimate
from completions_lp.steer.vectors import extract_vector, form_vector, read_differences


def make_pairs(n=7, *, longest=12, seed=0):
    """Pairs of random token ids, ragged, read anywhere."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(n):
        texts = [tuple(rng.integers(2, 320, size=rng.integers(1, longest + 1)).tolist()) for _ in range(2)]
        pairs.append(ContrastPair(*texts, *(int(rng.integers(len(text))) for text in texts)))
    return pairs


def measure(differences, **options):
    """Of pairs with these differences."""
    return estimate(differences, np.zeros_like(differences), **options)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
@pytest.mark.usefixtures("exact_softmax")
def test_a_vector_equals_the_slow_twin_at_every_layer(build_model, architecture, dtype, tolerance):
    model = build_model(architecture, dtype=dtype)
    pairs = make_pairs()
    vector = extract_vector(model, pairs, progress=False)
    assert list(vector.directions) == [0, 1, 2]
    for layer, direction in vector.directions.items():
        slow = reference.mean_difference(model.module, pairs, layer)
        np.testing.assert_allclose(direction, slow, rtol=0, atol=tolerance * np.abs(slow).max())
        assert vector.quality[layer].norm == pytest.approx(np.linalg.norm(slow), rel=tolerance)


def test_five_chunks_of_ten_give_the_vector_of_one_batch_of_fifty(build_model):
    model = build_model("llama")
    pairs = make_pairs(50)
    whole, chunks, single = (extract_vector(model, pairs, batch_size=size, progress=False) for size in (50, 10, 1))
    for layer, direction in whole.directions.items():
        np.testing.assert_allclose(chunks.directions[layer], direction, rtol=0, atol=1e-6 * np.abs(direction).max())
        np.testing.assert_allclose(single.directions[layer], direction, rtol=0, atol=1e-5 * np.abs(direction).max())


def test_the_memory_budget_changes_nothing(build_model):
    model = build_model("llama", dtype=torch.float64)
    pairs = make_pairs(5)
    small = extract_vector(model, pairs, memory_budget=1e-6, progress=False)
    for layer, direction in extract_vector(model, pairs, progress=False).directions.items():
        np.testing.assert_allclose(small.directions[layer], direction, atol=1e-11)


def test_only_the_layers_that_are_asked_for_are_read(build_model):
    model = build_model("llama")
    pairs = make_pairs(4)
    whole = extract_vector(model, pairs, progress=False)
    before = model.usage.passes
    some = extract_vector(model, pairs, layers=[2, 0, 2], name="some", progress=False)
    assert model.usage.passes == before + 1
    assert (some.name, some.kind, list(some.directions)) == ("some", "target", [0, 2])
    for layer in (0, 2):
        np.testing.assert_allclose(some.directions[layer], whole.directions[layer], rtol=1e-6)


def test_a_vector_says_where_it_comes_from(build_model):
    model = build_model("llama")
    vector = extract_vector(model, make_pairs(4), progress=False)
    provenance = vector.provenance
    assert (provenance["model"], provenance["d_model"], provenance["n_pairs"]) == ("llama", 32, 4)
    assert (provenance["site"], provenance["method"]) == ("resid_post", "mean difference")
    assert provenance["weights"] == model.fingerprint() != build_model("gpt2").fingerprint()


def test_quality_equals_its_formulas():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(9, 5)) + 0.5
    got = measure(x, seed=4)
    mean = x.mean(0)
    unit = mean / np.sqrt((mean**2).sum())
    projections = [float(row @ unit) for row in x]
    variance = sum((p - np.mean(projections)) ** 2 for p in projections) / 8
    assert got.norm == pytest.approx(np.sqrt((mean**2).sum()), rel=1e-12)
    assert got.norm_se == pytest.approx(np.sqrt(variance / 9), rel=1e-12)
    # The mean over all halvings, of which 100 random ones are a sample.
    halves = [c for c in np.ndindex(*(2,) * 9) if sum(c) == 4]
    cosines = []
    for half in halves:
        a, b = (x[np.array(half) == side].mean(0) for side in (1, 0))
        cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert len(halves) == 126
    assert abs(got.split_half_cosine - np.mean(cosines)) < 4 * np.std(cosines) / np.sqrt(100)
    assert measure(x, seed=4).split_half_cosine == got.split_half_cosine
    assert measure(x, seed=5).split_half_cosine != got.split_half_cosine


def test_the_norms_standard_error_is_its_spread_over_samples():
    rng = np.random.default_rng(1)
    mean = np.array([3.0, 0, 0, 0])
    got = [measure(mean + rng.normal(size=(60, 4))) for _ in range(300)]
    spread = np.std([quality.norm for quality in got])
    assert np.mean([quality.norm_se for quality in got]) == pytest.approx(spread, rel=0.15)


def test_quality_of_pairs_that_agree_or_are_alone():
    same = measure(np.tile([1.0, 2.0], (6, 1)))
    assert same.split_half_cosine == pytest.approx(1)
    assert same.norm_se == pytest.approx(0, abs=1e-12)
    alone = measure(np.array([[3.0, 4.0]]))
    assert alone.norm == 5
    assert np.isnan(alone.norm_se)
    assert np.isnan(alone.split_half_cosine)
    nothing = measure(np.zeros((4, 3)))
    assert nothing.norm == 0
    assert np.isnan(nothing.split_half_cosine)


def test_random_vectors_have_the_vectors_own_norm_and_only_their_seed(build_model):
    vector = make_vector(build_model())
    drawn = draw_random_vectors(vector, 3, seed=5)
    assert [v.name for v in drawn] == ["v-random-0", "v-random-1", "v-random-2"]
    assert {v.kind for v in drawn} == {"random"}
    for v in drawn:
        for layer, direction in v.directions.items():
            assert np.linalg.norm(direction) == pytest.approx(np.linalg.norm(vector.directions[layer]), rel=1e-12)
    more, other = draw_random_vectors(vector, 4, seed=5), draw_random_vectors(vector, 3, seed=6)
    for i in range(3):
        assert np.array_equal(more[i].directions[1], drawn[i].directions[1])
        assert not np.allclose(other[i].directions[1], drawn[i].directions[1])
    assert not np.allclose(drawn[0].directions[1], drawn[1].directions[1])
    assert not np.allclose(drawn[0].directions[0], drawn[0].directions[1])
    assert draw_random_vectors(vector, 0, seed=5) == ()


def test_shuffled_vectors_are_the_pairs_with_signs_flipped(build_model):
    differences = read_differences(build_model("llama", dtype=torch.float64), make_pairs(5), progress=False)
    vector = form_vector(differences)
    drawn = shuffle_labels(differences, vector, 6, seed=0)
    assert [v.kind for v in drawn] == ["shuffled"] * 6
    for v in drawn:
        norm = np.linalg.norm(vector.directions[1])
        assert np.linalg.norm(v.directions[1]) == pytest.approx(norm, rel=1e-12)
        candidates = [(2 * np.array(s) - 1) @ differences.values[1] for s in np.ndindex(*(2,) * 5)]
        unit = [c / np.linalg.norm(c) * norm for c in candidates]
        assert min(np.abs(v.directions[1] - c).max() for c in unit) < 1e-9
    assert len({tuple(v.directions[1]) for v in drawn}) > 1
    again = shuffle_labels(differences, vector, 2, seed=0)
    assert np.array_equal(again[1].directions[2], drawn[1].directions[2])


def test_a_negated_vector_points_the_other_way(build_model):
    vector = make_vector(build_model())
    negated = negate_vector(vector)
    assert (negated.name, negated.kind) == ("v-negated", "negated")
    for layer, direction in vector.directions.items():
        assert np.array_equal(negated.directions[layer], -direction)


def test_what_is_left_without_another_direction_is_orthogonal_to_it_and_as_long(build_model):
    vector, other = make_vector(build_model()), make_vector(build_model(), name="tone", seed=1, size=0.1)
    rest = remove_direction(vector, other)
    assert (rest.name, rest.kind, dict(rest.provenance)) == ("v-without-tone", "orthogonal", {"removed": "tone"})
    assert list(rest.directions) == [0, 1, 2]
    for layer, direction in vector.directions.items():
        away = other.directions[layer]
        got = rest.directions[layer]
        assert got @ away == pytest.approx(0, abs=1e-10)
        assert np.linalg.norm(got) == pytest.approx(np.linalg.norm(direction), rel=1e-12)
        # Least squares: what no multiple of the other direction explains.
        coefficient = np.linalg.lstsq(away[:, None], direction, rcond=None)[0]
        left = direction - away * coefficient
        np.testing.assert_allclose(got / np.linalg.norm(got), left / np.linalg.norm(left), atol=1e-10)
        turned = remove_direction(vector, negate_vector(other)).directions[layer]
        np.testing.assert_allclose(turned, got, atol=1e-12)
    again = remove_direction(rest, other)
    np.testing.assert_allclose(again.directions[1], rest.directions[1], atol=1e-10)


def test_a_vector_of_fewer_layers_needs_only_those_of_the_other():
    directions = {0: np.array([3.0, 4.0]), 1: np.array([1.0, 0.0])}
    other = SteeringVector("o", "target", {0: np.array([5.0, 0.0]), 1: np.array([1.0, 1.0]), 2: np.zeros(2)})
    rest = remove_direction(SteeringVector("v", "target", directions), other)
    np.testing.assert_allclose(rest.directions[0], [0, 5], atol=1e-12)
    np.testing.assert_allclose(rest.directions[1], [np.sqrt(0.5), -np.sqrt(0.5)], atol=1e-12)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({0: np.ones(2)}, r"vector 'o' has size 2 and layers \[0\]; to make 'v' orthogonal to it, it needs size 3 and"),
        ({0: np.array([0.0, 1, 0])}, r"has size 3 and layers \[0\]; .* it needs size 3 and layer 1$"),
        (
            {0: np.array([0.0, 1, 0]), 1: np.array([-1.0, -2, -3])},
            "vectors 'v' and 'o' are parallel at layer 1: nothing is left",
        ),
        (
            {0: np.array([0.0, 1, 0]), 1: np.array([1.0, 2, 3 + 1e-9])},
            "vectors 'v' and 'o' are parallel at layer 1: nothing is left",
        ),
        ({0: np.array([0.0, 1, 0]), 1: np.zeros(3)}, "vector 'o' is zero at layer 1: nothing can be made orthogonal"),
    ],
)
def test_directions_that_cannot_be_removed_say_why(other, message):
    vector = SteeringVector("v", "target", {0: np.array([1.0, 0, 0]), 1: np.array([1.0, 2, 3])})
    with pytest.raises(InputError, match=message):
        remove_direction(vector, SteeringVector("o", "target", other))


@pytest.mark.parametrize(
    ("pairs", "layers", "message"),
    [
        ([], None, "no contrast pairs; a vector needs at least one"),
        (make_pairs(2), [3], "layer 3 is out of range: llama has layers 0 to 2"),
        (make_pairs(2), [-1], "layer -1 is out of range"),
        (
            [*make_pairs(2), ContrastPair((5,) * 129, (5,), 0, 0)],
            None,
            "contrast pair 3 has 129 tokens, more than the 128 of the context of llama; shorten it or leave it out",
        ),
    ],
)
def test_impossible_vectors_say_what_is_wrong(build_model, pairs, layers, message):
    with pytest.raises(InputError, match=message):
        extract_vector(build_model("llama"), pairs, layers=layers, progress=False)


def test_a_vector_does_not_depend_on_the_order_of_the_pairs(build_model):
    model = build_model("llama", dtype=torch.float64)
    pairs = make_pairs(6)
    forward, backward = (extract_vector(model, p, batch_size=2, progress=False) for p in (pairs, pairs[::-1]))
    for layer, direction in forward.directions.items():
        np.testing.assert_allclose(backward.directions[layer], direction, atol=1e-11)
    turned = [ContrastPair(p.negative, p.positive, p.negative_index, p.positive_index) for p in pairs]
    for layer, direction in extract_vector(model, turned, progress=False).directions.items():
        np.testing.assert_allclose(direction, -forward.directions[layer], atol=1e-11)
