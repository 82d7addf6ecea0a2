"""What follows the behaviour and what the letter: exact on models whose every text can be written down."""

import csv
import dataclasses

import numpy as np
import pyarrow.parquet
import pytest
import reference
import scipy.stats
import toys
from scored import World, make_scores, make_world

from completions_lp.quantities import find_quantity
from completions_lp.records import Choices, Labelling
from completions_lp.report import summarize
from completions_lp.score.measures import measure_completions
from completions_lp.score.sums import sum_tokens
from completions_lp.show.escape import escape_rows
from completions_lp.show.page import make_page
from completions_lp.show.text import format_overview, format_report
from completions_lp.show.text.numbers import format_estimate
from completions_lp.store.reports import write_report

STEPS = 2
MULTIPLIERS = (0.8, -0.5)
PAIRS = 7
EXCHANGED = [toys.EOS, toys.B, toys.A, toys.C, toys.D]
QUANTITIES = ("delta_p_A", "increase_to_answer_A", "logit_diff_change")


def exchange(law):
    """The same law of texts with A and B in each other's place: what a model says that reads the choices alone."""

    def exchanged(prefix):
        return law(tuple(EXCHANGED[v] for v in prefix))[EXCHANGED]

    return exchanged


def make_twin(world, kind, seed):
    """The world of the exchanged question: the same letters, the same behaviour, or neither."""
    matching = {"matching": world.not_matching, "not_matching": world.matching}
    if kind == "letter":
        return dataclasses.replace(world, **matching)
    if kind == "behaviour":
        law, steered = exchange(world.law), tuple(map(exchange, world.steered))
        texts = [tuple(EXCHANGED[v] for v in text) for text in world.texts]
        return World(law, steered, texts, world.counts, **matching)
    return make_world(1000 + seed, MULTIPLIERS, steps=STEPS, **matching)


def make_pairs(kind, *, pairs=PAIRS):
    """Worlds, two by two; either letter matches in the first of a pair."""
    found = []
    for seed in range(pairs):
        letters = ("A", "B") if seed % 3 else ("B", "A")
        first = make_world(seed, MULTIPLIERS, steps=STEPS, matching=letters[0], not_matching=letters[1])
        found += [first, make_twin(first, kind, seed)]
    return found


def make_records(worlds, *, target="matching", twins=True, watch=True):
    """Increases, read-out and measures of the worlds; every second one is the twin of the one before."""
    labelling = Labelling(within=STEPS)
    scores = make_scores(worlds, within=STEPS, target=target, labelling=labelling, watch=watch)
    prompts = list(scores.completions.prompts)
    for i in range(1, len(prompts), 2) if twins else ():
        before = prompts[i - 1]
        name = f"{before.id}/swapped"
        prompts[i] = dataclasses.replace(prompts[i], id=name, cluster=before.cluster, twin=before.id)
    completions = dataclasses.replace(scores.completions, prompts=tuple(prompts))
    scores = dataclasses.replace(scores, completions=completions)
    pairs = [[tokens[0] for tokens in world.pair(target)] for world in worlds]
    baseline = np.array([world.law(())[pair] for world, pair in zip(worlds, pairs, strict=True)])
    steered = [
        [world.steered[c](())[pair] for world, pair in zip(worlds, pairs, strict=True)] for c in range(len(MULTIPLIERS))
    ]
    letters = tuple(prompt.pair(target) for prompt in prompts)
    choices = Choices(tuple(prompts), letters, scores.conditions, baseline, np.array(steered))
    return sum_tokens(scores), choices, measure_completions(scores, target=target)


def report_on(worlds, *, target="matching", **options):
    return summarize(*make_records(worlds, target=target, **options), target=target)


def read_parts(report):
    """Estimates by condition's index, quantity and part."""
    conditions = report.increases.conditions
    return {(conditions.index(swap.condition), swap.quantity, swap.part): swap for swap in report.swaps}


def list_effects(world, c, quantity):
    """The effect on each letter, by adding up every text."""
    law, steered, effects = world.law, world.steered[c], {}
    for letter, index, token in (("A", 0, toys.A), ("B", 1, toys.B)):
        if quantity == "logit_diff_change":
            other = toys.A + toys.B - token
            now, then = (one(())[token] - one(())[other] for one in (steered, law))
            effects[letter] = now - then
        elif quantity == "delta_p_A":
            effects[letter] = 100 * (world.probability(steered, STEPS, letter) - world.probability(law, STEPS, letter))
        else:
            mass = total = 0.0
            for text in toys.enumerate_texts(law, STEPS):
                found, where = toys.first_answer(text, STEPS)
                if found == index:
                    p, said = np.exp(toys.logprob_of(law, text)), text[: where + 1]
                    mass += p
                    total += p * (toys.logprob_of(steered, said) - toys.logprob_of(law, said))
            effects[letter] = total / mass
    return effects


@pytest.mark.parametrize("target", ["matching", "A", "B"])
@pytest.mark.parametrize("kind", ["letter", "behaviour", "neither"])
def test_parts_are_those_of_every_text(kind, target):
    worlds = make_pairs(kind)
    got = read_parts(report_on(worlds, target=target))
    parts = ("behaviour", "letter", "common")
    names = {(q, part) for q in QUANTITIES for part in parts if (q, part) != ("logit_diff_change", "common")}
    assert {key[1:] for key in got} == names
    for c in range(len(MULTIPLIERS)):
        for quantity, part in names:
            want = [
                reference.split_swapped(
                    [list_effects(one, c, quantity), list_effects(two, c, quantity)],
                    ("A", "B"),
                    (one.matching, two.matching),
                )[part]
                for one, two in zip(worlds[::2], worlds[1::2], strict=True)
            ]
            swap = got[c, quantity, part]
            assert swap.estimate.value == pytest.approx(np.mean(want), abs=1e-9)
            assert (swap.estimate.n, swap.estimate.n_clusters, swap.n_dropped) == (PAIRS, PAIRS, 0)
            if np.std(want) > 1e-6:
                ends = scipy.stats.ttest_1samp(want, 0).confidence_interval()
                np.testing.assert_allclose((swap.estimate.low, swap.estimate.high), ends, rtol=1e-6, atol=1e-9)


def test_answers_that_no_token_decides_have_the_same_parts():
    """Here the draws are in exact proportion, so that weighted shares are exact, too."""
    worlds = make_pairs("neither", pairs=2)
    want, got = (read_parts(report_on(worlds, watch=watch)) for watch in (True, False))
    for part in ("behaviour", "letter", "common"):
        for c in range(len(MULTIPLIERS)):
            values = [found[c, "delta_p_A", part].estimate.value for found in (want, got)]
            assert values[1] == pytest.approx(values[0], abs=1e-9)
            assert abs(values[0]) > 1e-3


@pytest.mark.parametrize("target", ["matching", "A"])
@pytest.mark.parametrize(("kind", "absent"), [("letter", "behaviour"), ("behaviour", "letter")])
def test_a_pure_bias_has_no_part_of_the_other_kind(kind, absent, target):
    """Pair by pair, and not because some pairs make up for others."""
    for seed in range(3):
        first = make_world(seed, MULTIPLIERS, steps=STEPS, matching="BA"[seed % 2], not_matching="AB"[seed % 2])
        got = read_parts(report_on([first, make_twin(first, kind, seed)], target=target))
        for c in range(len(MULTIPLIERS)):
            for quantity in QUANTITIES:
                assert got[c, quantity, absent].estimate.value == pytest.approx(0, abs=1e-12)
                assert abs(got[c, quantity, kind].estimate.value) > 0.01


def test_the_plain_mean_of_both_orders_is_behaviour_and_common():
    """A pure letter bias moves this mean: the average alone does not tell the letter from the behaviour."""
    report = report_on(make_pairs("letter"))
    got = read_parts(report)
    for c, condition in enumerate(report.increases.conditions):
        for quantity in QUANTITIES[:2]:
            parts = [got[c, quantity, part].estimate.value for part in ("behaviour", "common")]
            assert sum(parts) == pytest.approx(report.estimate(quantity, condition).value, abs=1e-9)
            assert abs(parts[1]) > 0.01
        whole = report.estimate("logit_diff_change", condition).value
        assert got[c, "logit_diff_change", "behaviour"].estimate.value == pytest.approx(whole, abs=1e-12)


def test_a_pair_without_one_of_the_answers_is_left_out_and_counted():
    worlds = make_pairs("neither")
    never = [k for k, text in enumerate(worlds[1].texts) if toys.first_answer(text, STEPS)[0] != 1]
    texts, counts = ([x[k] for k in never] for x in (worlds[1].texts, worlds[1].counts))
    worlds[1] = dataclasses.replace(worlds[1], texts=texts, counts=counts)
    got = read_parts(report_on(worlds))
    for part in ("behaviour", "letter", "common"):
        swap = got[0, "increase_to_answer_A", part]
        assert (swap.estimate.n, swap.n_dropped) == (PAIRS - 1, 1)
    assert got[0, "logit_diff_change", "letter"].estimate.n == PAIRS


def test_questions_whose_twin_is_not_there_are_no_pair():
    increases, choices, measures = make_records(make_pairs("neither"))
    kept = [i for i in range(2 * PAIRS) if i not in (0, 3)]
    completions = increases.completions.select(kept)
    rows = np.isin(increases.completions.prompt_index, kept)
    fewer = dataclasses.replace(
        increases,
        completions=completions,
        baseline=increases.baseline[rows],
        **{name: getattr(increases, name)[:, rows] for name in increases.PARTS},
    )
    (swap, *_) = summarize(fewer).swaps
    assert swap.estimate.n == PAIRS - 2
    assert summarize(increases, choices, measures).swaps[0].estimate.n == PAIRS


def test_one_outcome_in_both_orders_has_no_letter_to_tell():
    """As where a label rule names outcomes, such as a refusal, which no letter of the choices stands for."""
    first = make_world(0, MULTIPLIERS, steps=STEPS)
    assert report_on([first, first]).swaps == ()


def test_the_terminal_tells_the_parts_of_the_best_cell():
    report = report_on(make_pairs("neither"))
    best = report.best
    told = format_overview(report, title="t", width=10_000)
    line = next(line for line in told.splitlines() if "questions asked in both orders" in line)
    assert line.startswith(f"Of {find_quantity(best.quantity).head}, over {PAIRS} questions asked in both orders: ")
    for swap in report.swaps:
        if (swap.condition, swap.quantity) == (best.condition, best.quantity):
            assert format_estimate(swap.estimate) in line
    other = format_overview(report_on(make_pairs("neither"), twins=False), title="t", width=10_000)
    assert "both orders" not in other


def test_a_run_in_one_order_has_nothing_of_it(tmp_path):
    report = report_on(make_pairs("neither"), twins=False)
    assert report.swaps == ()
    text = format_report(report, title="t", quality={})
    assert "Behaviour or letter" not in text
    assert 'id="swaps"' not in make_page(report, {})
    write_report(tmp_path, report, text, doses={}, escape=escape_rows)
    assert not list(tmp_path.glob("swaps.*"))


def test_the_parts_are_stored_and_shown(tmp_path):
    report = report_on(make_pairs("neither"))
    text = format_report(report, title="t", quality={})
    write_report(tmp_path, report, text, doses={}, escape=escape_rows)
    rows = pyarrow.parquet.read_table(tmp_path / "swaps.parquet").to_pylist()
    assert len(rows) == len(report.swaps) == 8 * len(MULTIPLIERS)
    for row, swap in zip(rows, report.swaps, strict=True):
        assert (row["layer"], row["multiplier"]) == (swap.condition.layer, swap.condition.multiplier)
        assert [row[name] for name in ("quantity", "part", "n_dropped")] == [swap.quantity, swap.part, 0]
        e = swap.estimate
        assert [row[name] for name in ("value", "low", "high", "n_pairs")] == [e.value, e.low, e.high, PAIRS]
    with (tmp_path / "swaps.csv").open(encoding="utf-8", newline="") as file:
        assert [row["part"] for row in csv.DictReader(file)] == [row["part"] for row in rows]
    page = make_page(report, {})
    shown = f"{report.swaps[0].estimate.value:+.2f}"
    for words in (text.partition("## Behaviour or letter")[2], page.partition('id="swaps"')[2]):
        assert shown.replace("-", "\N{MINUS SIGN}") in words.replace("-", "\N{MINUS SIGN}")
