"""The arithmetic of the pages on papers that read choices out, on numbers made up here; no model, no run."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats as scipy_stats

PAGES = Path(__file__).resolve().parents[1] / "analysis" / "pages"
pytestmark = pytest.mark.skipif(not PAGES.is_dir(), reason="not a checkout")
sys.path.append(str(PAGES))
caa, odds, readouts, tan = (pytest.importorskip(name) for name in ("caa", "odds", "readouts", "tan"))


def make_table(seed: int = 0, n: int = 7):
    """What a read-out keeps of n questions in both orders at layer 8, in one order at layer 9; and its log probs."""
    rng = np.random.default_rng(seed)
    names = ("vector", "layer", "multiplier", "dose", "prompt", "question", "cluster", "swapped", "first")
    rows, truth = [], {}
    for layer, doses, orders in ((8, (-0.4, -0.2, 0.2, 0.4), (False, True)), (9, (-0.2, 0.2), (False,))):
        for vector, dose in [("", 0.0), *((v, d) for v in ("answer", "letter") for d in doses)]:
            for question in range(n):
                for swapped in orders:
                    prompt = f"{question}/swapped" if swapped else str(question)
                    at = (vector, layer if vector else -1, 5 * dose, dose)
                    key = (vector, layer if vector else -1, dose, prompt)
                    truth.setdefault(key, np.log(rng.dirichlet([3.0, 2.0, 4.0])[:2]))
                    whose = (prompt, question, f"topic {question}", swapped, (question % 2 == 0) != swapped)
                    rows.append((*at, *whose, *truth[key]))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return dict(zip((*names, "matching", "other"), columns, strict=True)), truth


@pytest.mark.parametrize(("layer", "swapped", "n_doses"), [(8, True, 5), (8, False, 5), (9, False, 3)])
def test_a_curve_has_the_numbers_of_its_condition_and_prompt(layer, swapped, n_doses):
    table, truth = make_table()
    curve = readouts.pick_curve(table, "letter", layer, swapped=swapped)
    prompts = [f"{q}{end}" for q in range(7) for end in (("", "/swapped") if swapped else ("",))]
    assert curve.matching.shape == (n_doses, len(prompts))
    for i, dose in enumerate(curve.doses.tolist()):
        for k, prompt in enumerate(prompts):
            want = truth[("letter", layer, dose, prompt) if dose else ("", -1, 0.0, prompt)]
            assert (curve.matching[i, k], curve.other[i, k]) == tuple(want)
            assert curve.question[k] == int(prompt[0])
            assert curve.first[k] == ((int(prompt[0]) % 2 == 0) != prompt.endswith("swapped"))
    np.testing.assert_allclose(curve.multipliers, 5 * curve.doses)
    near = curve.near(0.2)
    assert near.doses.tolist() == [-0.2, 0.0, 0.2]
    assert near.matching.shape == (3, len(prompts))


def test_the_probability_is_that_of_the_matching_letter_among_both():
    table, _ = make_table()
    curve = readouts.pick_curve(table, "answer", 8, swapped=False)
    for i in range(len(curve.doses)):
        for k in range(curve.matching.shape[1]):
            a, b = np.exp(curve.matching[i, k]), np.exp(curve.other[i, k])
            np.testing.assert_allclose(curve.probability[i, k], a / (a + b))
    low, high = curve.doses.tolist().index(-0.2), curve.doses.tolist().index(0.2)
    np.testing.assert_allclose(caa.difference(curve), curve.probability[high] - curve.probability[low])
    np.testing.assert_allclose(readouts.measure_reach(curve), caa.difference(curve).mean())


def test_a_behaviour_has_no_say_in_its_own_layer():
    effects = np.array([[9.0, 0.0, 0.0], [0.0, 2.0, 1.0], [0.0, 1.0, 3.0]])
    assert readouts.choose_layers(effects) == [2, 0, 0]
    changed = effects.copy()
    changed[0] = [-50.0, -50.0, 100.0]
    assert readouts.choose_layers(changed)[0] == 2
    assert readouts.choose_layers(np.array([[1.0, 5.0]])) == [1]


def test_layers_are_those_of_the_other_behaviours():
    tables = {"sycophancy": make_table(1)[0], "optimism": make_table(2)[0]}
    sweeps = caa.sweep(tables)
    layers = caa.find_layers(sweeps)
    for name, other in (("sycophancy", "optimism"), ("optimism", "sycophancy")):
        for vector in readouts.VECTORS:
            moved = {at: caa.difference(curve).mean() for at, curve in sweeps[other, vector].items()}
            assert list(moved) == [8, 9]
            assert layers[name, vector] == max(moved, key=moved.get)


def test_conditions_are_as_long_as_their_share_of_the_stream():
    rng = np.random.default_rng(3)
    vector = readouts.clp.SteeringVector("v", "target", {layer: rng.normal(size=5) for layer in range(3)})
    norms = np.array([10.0, 20.0, 40.0])
    for c in readouts.list_conditions([vector], norms, (0, 2), (-0.5, 0.1)):
        length = abs(c.multiplier) * np.linalg.norm(vector.directions[c.layer])
        np.testing.assert_allclose(length / norms[c.layer], 0.5 if c.multiplier < 0 else 0.1)


def test_steerability_is_the_slope_of_least_squares():
    curve = readouts.pick_curve(make_table()[0], "letter", 8, swapped=True)
    slope, error = tan.fit_steerability(curve)
    for k in range(len(slope)):
        line = scipy_stats.linregress(10 * curve.doses, curve.odds[:, k])
        np.testing.assert_allclose((slope[k], error[k]), (line.slope, line.stderr))


def test_the_part_of_the_variance_that_position_explains_is_a_squared_correlation():
    rng = np.random.default_rng(4)
    first = rng.random(40) < 0.4
    slope = rng.normal(size=40) + first
    np.testing.assert_allclose(tan.explain_by_position(slope, first), np.corrcoef(slope, first)[0, 1] ** 2)
    assert tan.explain_by_position(np.where(first, 2.0, -1.0), first) == pytest.approx(1)
    assert np.isnan(tan.explain_by_position(slope, np.ones(40, dtype=bool)))
    assert np.isnan(tan.explain_by_position(np.zeros(40), first))


def test_behaviour_and_letter_part_as_they_were_put_together():
    rng = np.random.default_rng(5)
    behaviour, letter = rng.normal(size=(2, 6))
    question, first = np.repeat(np.arange(6), 2), np.array([True, False, False, True] * 3)
    slope = behaviour[question] + np.where(first, letter[question], -letter[question])
    found = tan.split_parts(slope, first, question)
    np.testing.assert_allclose(found, (behaviour, letter))
    np.testing.assert_allclose(tan.average_orders(slope, question), behaviour)


def test_both_odds_are_those_of_the_probabilities():
    a, b = np.array([[0.5, 0.1], [0.3, 0.6]]), np.array([[0.2, 0.2], [0.3, 0.3]])
    curve = readouts.Curve(
        doses=np.array([0.0, 0.2]),
        multipliers=np.array([0.0, 1.0]),
        matching=np.log(a),
        other=np.log(b),
        first=np.array([True, False]),
        question=np.array([0, 1]),
        clusters=np.array([0, 1]),
    )
    np.testing.assert_allclose(odds.take_preference(curve), np.log(a / b))
    np.testing.assert_allclose(odds.take_utility(curve), np.log((a + b) / (1 - a - b)))
    np.testing.assert_allclose(odds.change(a, curve.doses), [[0, 0], a[1] - a[0]])


def test_the_line_and_its_fit_are_those_of_least_squares():
    rng = np.random.default_rng(6)
    doses, means = np.linspace(-0.2, 0.2, 5), rng.normal(size=5)
    line = scipy_stats.linregress(doses, means)
    np.testing.assert_allclose(odds.fit_line(doses, means), (line.slope, line.rvalue**2))
    assert np.isnan(odds.fit_line(doses, np.zeros(5))[1])


def test_what_is_read_is_laid_out_by_condition_and_prompt(monkeypatch):
    rng = np.random.default_rng(7)
    vector = readouts.clp.SteeringVector("letter", "target", {0: np.array([3.0, 4.0])})
    conditions = readouts.list_conditions([vector], np.array([10.0]), [0], (-0.2, 0.2))
    prompts = [
        SimpleNamespace(id="x", twin=None, cluster="t", matching="B", letters=("A", "B")),
        SimpleNamespace(id="x/swapped", twin="x", cluster="t", matching="A", letters=("A", "B")),
    ]
    baseline, logprob = rng.normal(size=(2, 2)), rng.normal(size=(2, 2, 2))
    choices = SimpleNamespace(baseline=baseline, logprob=logprob)
    monkeypatch.setattr(readouts.clp, "read_choices", lambda *_: choices)
    table = readouts._read(None, prompts, [vector], conditions, np.array([10.0]))
    np.testing.assert_allclose(table["dose"], [0, 0, -0.2, -0.2, 0.2, 0.2], atol=1e-12)
    assert table["first"].tolist() == [False, True] * 3
    assert len(set(table["question"].tolist())) == 1
    curve = readouts.pick_curve(table, "letter", 0, swapped=True)
    assert curve.doses.tolist() == [-0.2, 0.0, 0.2]
    np.testing.assert_array_equal(curve.matching, np.stack([logprob[0], baseline, logprob[1]])[..., 0])
    np.testing.assert_array_equal(curve.other, np.stack([logprob[0], baseline, logprob[1]])[..., 1])
