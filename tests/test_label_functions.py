"""Labels by a function of one's own: what it is asked, what it may answer, and who may name it."""

import functools
import sys

import pytest
from conftest import make_prompts
from test_labels import Pieces

from completions_lp.job.config import make_config
from completions_lp.records import InputError, Labelling, Prompt, name_outcomes, pick_letters
from completions_lp.sample.functions import hash_function, load_function
from completions_lp.sample.labels import Labeller


def ask(function, pieces=("I", " say", " no"), *, letters=("Yes", "No"), prompt=None, **options):
    labelling = Labelling("python", options.pop("within", "all"), function=function, **options)
    return Labeller(Pieces(*pieces), labelling).label(range(len(pieces)), letters=letters, prompt=prompt)


def test_a_function_labels_the_text_of_the_window():
    seen = []

    def find(text):
        seen.append(text)
        return "No" if "no" in text else None

    assert ask(find) == ("No", 2)  # all of the window decides: its last token is the position
    assert ask(find, ("so", " no", " more"), within=2) == ("No", 1)
    assert ask(find, ("well", " no"), within=1) == ("", -1)
    assert ask(lambda text: "") == ("", -1)
    assert ask(find, ("<|end|>", "no")) == ("No", 1)  # special tokens spell nothing
    assert seen == ["I say no", "so no", "well", "no"]


def fail(text):
    raise KeyError(text[:3])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            fail,
            r"test_label_functions:fail' raised KeyError: 'I s' on a completion of prompt 'p0', 'I say no'",
        ),
        (lambda text: 3, "gave 3 for a completion of prompt 'p0', 'I say no'; it must give the label as text, or None"),
        (lambda text: True, "gave True for a completion of prompt 'p0'"),
        (lambda text: "Maybe", r"gave 'Maybe' for .* 'p0', which is none of its answers \(Yes, No\): name all that it"),
        (
            "test_label_functions:fail",
            "is named by a stored run, .* say so with --set label.function=test_label_functi",
        ),
    ],
)
def test_what_is_wrong_with_a_function_is_one_line_with_the_completion(function, message):
    (prompt,) = make_prompts((3,))
    with pytest.raises(InputError, match=message) as error:
        ask(function, prompt=prompt)
    assert "\n" not in str(error.value)


def test_a_long_text_is_not_shown_whole():
    with pytest.raises(InputError, match=r"on a completion, 'x{80}…'$"):
        ask(fail, ("x" * 300,))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of the user's own with modules in it, from which a command is run."""
    (tmp_path / "own_labels.py").write_text(
        "class Finder:\n    @staticmethod\n    def find(text):\n        return 'No'\n\n\nLETTER = 'No'\n"
    )
    (tmp_path / "broken_labels.py").write_text("raise RuntimeError('on\\nimport')\n")
    (tmp_path / "json.py").write_text("raise RuntimeError('hides the module of Python')\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("own_labels", "broken_labels"):
        sys.modules.pop(name, None)


def test_a_function_is_found_by_its_name_in_the_folder_of_the_command(folder):
    before = list(sys.path)
    assert load_function("own_labels:Finder.find")("x") == "No"
    assert load_function("json:dumps")("x") == '"x"'  # a module of the folder hides none of Python's
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "no_such_labels:find",
            r"'no_such_labels:find' cannot be imported from .*: ModuleNotFoundError: No module named",
        ),
        ("own_labels:lost", r"cannot be imported from .*: AttributeError: .*'lost'"),
        ("broken_labels:find", r"cannot be imported from .*: RuntimeError: on\\nimport"),
        ("own_labels:LETTER", "'own_labels:LETTER' is str, which cannot be called with a text"),
    ],
)
def test_a_function_that_is_not_there_is_refused(folder, name, message):
    before = list(sys.path)
    with pytest.raises(InputError, match=message) as error:
        load_function(name)
    assert "\n" not in str(error.value)
    assert sys.path == before


def test_the_hash_is_of_the_source_of_its_module(folder):
    found = load_function("own_labels:Finder.find")
    one = hash_function(found)
    assert one == hash_function(found)
    with (folder / "own_labels.py").open("a") as file:
        file.write("\n# another helper, on which the function may lean\n")
    assert hash_function(found) != one
    assert hash_function(functools.wraps(found)(lambda text: text)) != one  # of what is wrapped, in the file as it is
    for function in (len, functools.partial(found)):
        with pytest.raises(InputError, match="has no source that can be read"):
            hash_function(function)


def test_a_function_has_the_name_of_its_module_and_itself():
    labelling = Labelling("python", function=fail, outcomes=("x", "y"))
    assert labelling.describe() == {
        **{"rule": "python", "within": 10, "pattern": "", "outcomes": ["x", "y"]},
        "function": f"{__name__}:fail",
    }
    assert make_config({"label": Labelling("python", function=lambda text: text).describe()})  # as a report is saved
    assert Labelling("python", function="m:f").describe()["function"] == "m:f"
    assert Labelling().describe() == {"rule": "letter", "within": 10, "pattern": ""}


def rename(names, **options):
    patterns = {name: name for name in names}
    prompts = [*make_prompts((3,)), Prompt("q", "q?", (5,), ("x", "y", "z"), "y", "x", "q")]
    return name_outcomes(prompts, Labelling("regex", patterns=patterns, **options))


def test_outcomes_are_the_letters_of_the_prompts():
    first, second = rename(("z", "y", "x"))
    assert (first.letters, first.matching, first.not_matching) == (("z", "y", "x"), "z", "y")
    assert (second.letters, second.matching, second.not_matching) == (("z", "y", "x"), "y", "x")
    assert (first.is_read_out, second.is_read_out) == (False, True)  # two answers that are outcomes stay answers
    assert [p.text for p in (first, second)] == ["prompt 0", "q?"]
    plain = make_prompts((3,))
    assert tuple(name_outcomes(plain, Labelling())) == plain
    again = name_outcomes([first, second], Labelling("regex", patterns={"z": "z", "y": "y", "x": "x"}))
    assert list(again) == [first, second]


def test_a_single_outcome_is_compared_with_its_absence_which_is_no_label():
    first, _ = rename(("refusal",))
    assert (first.letters, first.pair("refusal")) == (("refusal", "no refusal"), ("refusal", "no refusal"))
    assert pick_letters([first], "refusal") == (("refusal", "no refusal"),)


def test_matching_is_no_target_where_no_outcome_is_a_prompts_own():
    prompts = rename(("refusal", "comply"))
    with pytest.raises(InputError, match=r"target is 'matching', but the answers are outcomes, .*: comply, refusal"):
        pick_letters(prompts, "matching")
    with pytest.raises(InputError, match="target 'A' is an answer of no prompt; theirs are comply, refusal"):
        pick_letters(prompts, "A")
    assert pick_letters(prompts[:1], "comply") == (("comply", "refusal"),)
