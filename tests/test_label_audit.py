"""The audit of labels: counts against loops over every draw, numbers against whole runs by the other rule."""

import csv
import dataclasses
import io
import json
import shutil
from collections import Counter

import numpy as np
import pytest
from conftest import make_completions, make_prompts
from runs import change, make_place

import completions_lp as clp
from completions_lp import cli
from completions_lp.job.config import make_config
from completions_lp.quantities import HEADLINE, PRIMARY
from completions_lp.records import Draw, Labelling
from completions_lp.report.labels import Readable, find_ambiguous, find_disagreements, list_rules, relabel
from completions_lp.sample.completions import collect_completions
from completions_lp.sample.labels import Labeller
from completions_lp.show.text.labels import format_labels

PLAIN = {"sampling.top_up": 0, "controls.random_directions": 0, "sampling.n": 80, "prompts.limit": 6}
FIRST = {**PLAIN, "label.rule": "regex", "label.pattern": "{letter}", "label.within": 2}
LAST = {"label.rule": "final_answer", "label.within": "all", "label.pattern": "{letter}", "label.phrases": []}
ASKED = Labelling("final_answer", "all", "{letter}", phrases=())


@pytest.fixture(scope="module")
def place(tmp_path_factory, tokenizer):
    """Inputs whose answers are signs that a random model says often, and a run of them by the first of these."""
    folder = tmp_path_factory.mktemp("place")
    config = make_place(folder, tokenizer)
    rows = [json.loads(line) for line in (folder / "asked.jsonl").read_text().splitlines()]
    answers = {"answer_matching_behavior": "s", "answer_not_matching_behavior": "e"}
    (folder / "asked.jsonl").write_text("\n".join(json.dumps({**row, **answers}) for row in rows))
    report = clp.run(make_config(change(config, FIRST)), out=folder / "run", progress=False)
    return folder, config, report


def find_effect(audit, rule, condition, quantity):
    (found,) = [e for e in audit.effects if (e.rule, e.condition, e.quantity) == (rule, condition, quantity)]
    return found


def close(one, two):
    """Whether two estimates are the same number with the same interval."""
    for name in ("value", "low", "high", "n"):
        assert getattr(one, name) == pytest.approx(getattr(two, name), rel=1e-6, abs=1e-7, nan_ok=True), name


def list_values(report, condition, quantity):
    """A quantity of one cell by prompt."""
    table = {name: np.asarray(values) for name, values in report.prompts.items()}
    here = (table["layer"] == condition.layer) & (table["multiplier"] == condition.multiplier)
    here &= table["kind"] == "target"
    return dict(zip(table["prompt_id"][here].tolist(), table[quantity][here].tolist(), strict=True))


def test_by_its_own_rule_the_numbers_are_the_reports(place):
    folder, _, report = place
    audit = clp.audit_labels(folder / "run")
    conditions = [c for c in report.increases.conditions if c.kind == "target" and c.multiplier != 0]
    assert {e.condition for e in audit.effects} == {*conditions}
    for condition in conditions:
        for quantity in (HEADLINE, PRIMARY):
            found = find_effect(audit, "regex ≤2", condition, quantity)
            close(found.estimate, report.estimate(quantity, condition))
            assert found.moved.value == pytest.approx(0, abs=1e-12)
    assert audit.best == report.best.condition
    assert not audit.notes or "tokenizer" in audit.notes[0]


def test_by_another_rule_the_numbers_are_those_of_a_run_by_it(place, tmp_path):
    folder, config, report = place
    audit = clp.audit_labels(folder / "run", rules={"last": ASKED})
    alone = {"scoring.readings": False}  # which ride in the same passes, and so change their rounding
    other = clp.run(make_config(change(config, {**PLAIN, **LAST, **alone})), out=tmp_path / "other", progress=False)
    apart = 0
    for condition in {e.condition for e in audit.effects}:
        for quantity in (HEADLINE, PRIMARY):
            found = find_effect(audit, "last", condition, quantity)
            close(found.estimate, other.estimate(quantity, condition))
            one, two = (list_values(r, condition, quantity) for r in (report, other))
            moved = [two[k] - one[k] for k in one if np.isfinite(two[k] - one[k])]
            assert found.moved.value == pytest.approx(np.mean(moved), abs=1e-7)
            assert found.moved.n == len(moved)
            apart += abs(found.moved.value) > 1e-3
    assert apart


def test_counts_are_those_of_every_draw(place, tokenizer):
    folder, _, report = place
    completions = report.increases.completions
    audit = clp.audit_labels(folder / "run", rules={"last": ASKED})
    assert audit.counts[0].rule == "regex ≤2"
    assert {c.rule for c in audit.counts} == {
        *("regex ≤2", "regex, all", "letter ≤2", "token ≤2", "substring ≤2", "letter, all", "final_answer, all", "last")
    }
    for count in audit.counts:
        labeller, labels, several = Labeller(tokenizer, count.labelling), Counter(), 0
        for ids, n, times in zip(completions.token_ids, completions.lengths, completions.counts, strict=True):
            said = ids[:n].tolist()
            labels[labeller.label(said, letters=("s", "e"))[0]] += int(times)
            several += times * all(labeller.label(said, letters=(x,))[0] for x in ("s", "e"))
        assert count.answers == {"s": labels["s"], "e": labels["e"]}, count.rule
        assert (count.none, count.target, count.draws) == (labels[""], labels["s"], int(completions.counts.sum()))
        assert count.ambiguous == several, count.rule
    pair = next(d for d in audit.disagreements if (d.first, d.second) == ("regex ≤2", "last"))
    one, two = (Labeller(tokenizer, labelling) for labelling in (completions.labelling, ASKED))
    want = 0
    for ids, n, times in zip(completions.token_ids, completions.lengths, completions.counts, strict=True):
        said = ids[:n].tolist()
        want += times * (one.label(said, letters=("s", "e"))[0] != two.label(said, letters=("s", "e"))[0])
    assert (pair.draws, pair.total) == (want, int(completions.counts.sum()))
    assert 0 < len(pair.examples) <= 3
    assert [e.count for e in pair.examples] == sorted((e.count for e in pair.examples), reverse=True)
    assert all(e.first != e.second for e in pair.examples)


TEXTS = ["The answer is B", "A, no B", "As an AI", "é A", "<think>A</think>The answer is B", "(A) then", " B", "BA →A"]


def test_stored_pieces_are_read_as_the_tokenizer_would_have_read_them(tokenizer):
    """Without it, by whatever rule, prompts that leave a thinking part open included."""
    prompts = [
        dataclasses.replace(p, text=text, token_ids=tuple(tokenizer(text, add_special_tokens=False).input_ids))
        for p, text in zip(make_prompts((3, 3)), ("Well?", "Well?<think>"), strict=True)
    ]
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in TEXTS]
    drawn = [[Draw([*x, 0], [0.0] * (len(x) + 1), [i], True) for i, x in enumerate(ids)]] * 2
    said = collect_completions(tokenizer, prompts, drawn, clp.Sampling(n=8, max_new_tokens=40), Labelling())
    found = set()
    for within in (3, "all"):
        for rule in ("letter", "token", "substring", "final_answer"):
            labelling = Labelling(rule, within)
            one, two = (relabel(said, labelling, Readable.of(said, by)) for by in (tokenizer, None))
            assert one.label.tolist() == two.label.tolist(), rule
            assert one.answer_index.tolist() == two.answer_index.tolist(), rule
            several = [find_ambiguous(labelling, Readable.of(said, by)).tolist() for by in (tokenizer, None)]
            assert several[0] == several[1], rule
            found.add(tuple(one.label.tolist()))
    assert len(found) > 4


def test_the_rules_that_are_compared():
    said = make_completions(make_prompts((3,)), [(0, [5, 6, 7])])
    names = {name: list_rules(dataclasses.replace(said, labelling=rule)) for name, rule in {
        "letter": Labelling("letter", 2),
        "all": Labelling("letter", 10),
        "final": Labelling("final_answer", "all"),
        "outcomes": Labelling("regex", 2, patterns={"x": "x"}),
        "named": Labelling("python", 2, function="m:f"),
        "own": Labelling("python", 2, function=str.strip),
    }.items()}  # fmt: skip
    others = ["token", "substring"]
    assert [*names["letter"]] == ["letter ≤2", "letter, all", *[f"{x} ≤2" for x in others], "final_answer, all"]
    assert [*names["all"]] == ["letter ≤10", "letter, all", *[f"{x} ≤10" for x in others], "final_answer, all"]
    assert [*names["final"]] == ["final_answer, all", "letter, all", *[f"{x}, all" for x in others]]
    assert [*names["outcomes"]] == ["regex ≤2", "regex, all"]
    assert [*names["named"]][:2] == ["python ≤2", "letter ≤2"]  # a function of a stored run is not called
    assert [*names["own"]][:2] == ["python ≤2", "python, all"]


def test_rules_that_agree_are_no_pair():
    said = make_completions(make_prompts((3,)), [(0, [5]), (0, [6])], labels=["A", ""], answers=[0, -1], counts=[3, 1])
    other = dataclasses.replace(said, label=np.array(["A", "B"]), answer_index=np.array([0, 0]))
    assert not [*find_disagreements({"one": said, "two": said})]
    found = [*find_disagreements({"one": said, "two": other, "three": said}, examples=0)]
    assert [(d.first, d.second) for d in found] == [("one", "two"), ("two", "three")]
    assert {(d.draws, d.total, d.examples) for d in found} == {(1, 4, ())}


def test_what_is_not_scored_has_no_numbers_and_says_so(place, tmp_path):
    _, config, _ = place
    clp.run(make_config(change(config, {**FIRST, "scoring.through": "window"})), out=tmp_path / "out", progress=False)
    audit = clp.audit_labels(tmp_path / "out")
    rules = {e.rule for e in audit.effects}
    assert rules == {"regex ≤2", "letter ≤2", "token ≤2", "substring ≤2"}
    told = [note for note in audit.notes if 'needs tokens that were not scored ([scoring] through = "window")' in note]
    assert [note.partition(":")[0] for note in told] == ["regex, all", "letter, all", "final_answer, all"]
    assert len(audit.counts) == 7


def test_a_saved_report_has_labels_but_no_token_scores(place, tmp_path):
    folder, _, report = place
    report.save(tmp_path / "saved")
    audit = clp.audit_labels(tmp_path / "saved")
    assert audit.effects == ()
    assert any("token scores are not in" in note for note in audit.notes)
    assert [c.answers for c in audit.counts] == [c.answers for c in clp.audit_labels(folder / "run").counts]
    assert "moved" not in str(audit)


def test_greedy_completions_have_labels_but_no_probability(place, tmp_path):
    _, config, _ = place
    clp.run(make_config(change(config, {**FIRST, "sampling.greedy": True})), out=tmp_path / "out", progress=False)
    audit = clp.audit_labels(tmp_path / "out")
    assert audit.effects == ()
    assert any("not drawn by plain sampling" in note for note in audit.notes)
    assert {count.draws for count in audit.counts} == {6}


def test_without_the_tokenizer_pieces_are_read_and_it_is_told(place, tmp_path):
    folder, _, _ = place
    shutil.copytree(folder / "run", tmp_path / "run")
    info = json.loads((tmp_path / "run/run.json").read_text())
    info["config"]["model"]["name"] = str(tmp_path / "gone")
    for stage in info["stages"].values():
        stage["settings"] = {k: v for k, v in stage["settings"].items() if k != "model.name"}
    (tmp_path / "run/run.json").write_text(json.dumps(info))
    audit = clp.audit_labels(tmp_path / "run")
    assert any("there is no tokenizer to tell" in note for note in audit.notes)
    assert audit.effects
    assert audit.counts[0].answers == clp.audit_labels(folder / "run").counts[0].answers


def test_the_command_prints_tables_and_writes_rows(place, tmp_path, capsys):
    folder, _, _ = place
    path = tmp_path / "rows.csv"
    asked = ["--set", "label.rule=final_answer", "--set", "label.pattern={letter}", "--set", "label.phrases=[]"]
    asked += ["--set", "label.within=all", "--csv", str(path)]
    assert cli.main(["labels", str(folder / "run"), *asked]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "the run's own rule is regex ≤2." in printed.out
    assert "final_answer, all (asked)" in printed.out
    assert "regex ≤2 against letter ≤2" in printed.out
    assert "moved" in printed.out
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    assert {row["table"] for row in rows} == {"labels", "pairs", "examples", "effects"}
    effects = [row for row in rows if row["table"] == "effects" and row["rule"] == "final_answer, all (asked)"]
    assert {row["quantity"] for row in effects} == {HEADLINE, PRIMARY}
    assert all(float(row["moved_n"]) <= 6 for row in effects)
    assert cli.main(["labels", str(folder / "run"), "--all", "--examples", "0"]) == 0
    whole = capsys.readouterr().out
    assert "more pair" not in whole
    assert "more pair" in printed.out
    assert len([line for line in whole.splitlines() if line.startswith("layer ")]) == 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--set", "sampling.n=3"], "--set sampling.n=3: only keys of [label] say how completions are labelled"),
        (["--set", "label.rule=regex"], 'label rule = "regex" needs a pattern'),
        (["--set", "label.rule=python", "--set", "label.function=no_such:find"], "'no_such:find' cannot be imported"),
    ],
)
def test_a_wrong_rule_is_one_line(place, capsys, command, message):
    assert cli.main(["labels", str(place[0] / "run"), *command]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
    assert cli.main(["labels", str(place[0] / "nowhere")]) == 2
    assert "not a run directory" in capsys.readouterr().err


def test_texts_of_a_model_are_safe_to_print(place):
    folder, _, _ = place
    audit = clp.audit_labels(folder / "run")
    pair = audit.disagreements[0]
    bad = dataclasses.replace(pair.examples[0], text="\x1b[31mred\nline\u202e", prompt_id="\x07id")
    audit = dataclasses.replace(audit, disagreements=(dataclasses.replace(pair, examples=(bad,)),))
    text = format_labels(audit, width=100)
    assert "\\x1b[31mred\\nline\\u202e" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert repr(audit) == f"LabelAudit({len(audit.counts)} rules, {audit.counts[0].draws} draws)"
    assert str(audit)


def test_many_answers_share_a_column(place):
    folder, _, _ = place
    audit = clp.audit_labels(folder / "run")
    many = tuple(dataclasses.replace(c, answers=dict.fromkeys("abcdefgh", 0) | c.answers) for c in audit.counts)
    text = format_labels(dataclasses.replace(audit, counts=many), width=120)
    assert "other answers" in text
    assert '"s"' not in text.splitlines()[2]
