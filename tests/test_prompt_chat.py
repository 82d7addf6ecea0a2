"""Chats, prefixes and beginnings: what is said before the answer, one BOS, and the answer's token after all that."""

import pytest
import tokenizers
import transformers
from test_prompts import ANSWERS, QUESTION, ROW, write
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from completions_lp.prompts import answer_tokens, first_difference, load_pairs, load_prompts
from completions_lp.records import InputError

TEXT = "The answer is (A). I choose (B). Yes No"
TURNS = (
    "{{ bos_token }}{% for m in messages %}[{{ m.role }}]\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
"""A template of its own for these tests, of the usual kind: each turn below its role."""
BRACKETS = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system turns') }}"
    "{% elif m.role == 'user' %}{{ bos_token + '[INST] ' + m.content.strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""Every user's turn with a beginning of its own, and a space before the assistant's words."""
SHOTS = ({"user": "Is ice cold?\n (A) No\n (B) Yes", "assistant": "(B)"},)


def make_tokenizer(
    template=TURNS, *, adds=True, ends=False, spaces=False, text="The answer is (A). I choose (B). Yes No"
):
    """A tokenizer with a beginning and an end, which it adds or not; with ``spaces``, ``▁`` before every text, too."""
    core = tokenizers.Tokenizer(models.BPE(byte_fallback=False))
    if spaces:
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        core.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
    alphabet = sorted(
        {*"\n▁[]/() .:?!'\"", *map(chr, range(48, 58)), *map(chr, range(65, 91)), *map(chr, range(97, 123))}
    )
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=alphabet if spaces else pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([text] * 8, trainer)
    if adds:
        single = "<s> $A </s>" if ends else "<s> $A"
        core.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    made.chat_template = template
    return made


def load(tmp_path, tokenizer, rows=(ROW,), **options):
    return load_prompts(write(tmp_path, list(rows)), tokenizer, **options)


@pytest.mark.parametrize("template", [TURNS, TURNS.removeprefix("{{ bos_token }}")], ids=["writes", "writes none"])
@pytest.mark.parametrize("adds", [True, False], ids=["adds", "adds none"])
@pytest.mark.parametrize("ends", [True, False], ids=["ends", "does not end"])
def test_a_prompt_has_one_beginning_whoever_writes_it(tmp_path, template, adds, ends):
    """Elsewhere a filled chat template is tokenised with a second beginning, or with none."""
    tokenizer = make_tokenizer(template, adds=adds, ends=ends)
    wanted = 1 if adds or "bos_token" in template else 0
    (chat,) = load(tmp_path, tokenizer, template="chat")
    assert chat.token_ids.count(tokenizer.bos_token_id) == wanted
    assert chat.token_ids[:wanted] == (tokenizer.bos_token_id,) * wanted
    assert tokenizer.eos_token_id not in chat.token_ids
    (plain,) = load(tmp_path, tokenizer)
    assert plain.token_ids.count(tokenizer.bos_token_id) == int(adds)
    assert tokenizer.eos_token_id not in plain.token_ids
    (own,) = load(tmp_path, tokenizer, template="<s>{question}")
    assert own.token_ids.count(tokenizer.bos_token_id) == 1
    for options in ({}, {"template": "chat"}):
        (pair,) = load_pairs(write(tmp_path, [ROW]), tokenizer, **options)
        (prompt,) = load(tmp_path, tokenizer, **options)
        assert pair.positive[: len(prompt.token_ids)] == prompt.token_ids
        assert pair.positive.count(tokenizer.bos_token_id) == prompt.token_ids.count(tokenizer.bos_token_id)
        assert tokenizer.eos_token_id not in pair.positive
    texts = write(tmp_path, [{"positive": "<s>I am careful", "negative": "I am bold"}])
    (pair,) = load_pairs(texts, tokenizer)
    assert (pair.positive.count(0), pair.negative.count(0)) == (1, int(adds))


@pytest.mark.parametrize(
    ("adds", "template", "question"),
    [
        (True, "<s><s>{question}", QUESTION),
        (False, "<s><s>{question}", QUESTION),
        (True, "<s>{question}", f"<s>{QUESTION}"),
        (True, "chat", "<s>x"),
        (True, "Q: <s>{question}", QUESTION),
        (True, " <s>{question}", QUESTION),
    ],
)
def test_two_beginnings_are_an_error(tmp_path, adds, template, question):
    tokenizer = make_tokenizer("{{ '<s>' + messages[0].content }}", adds=adds)
    with pytest.raises(InputError, match=r"line 1: the prompt has '<s>', which begins a text, twice, at tokens 0 and "):
        load(tmp_path, tokenizer, [{**ROW, "question": question}], template=template)


def test_a_beginning_of_every_turn_is_no_second_one(tmp_path):
    tokenizer = make_tokenizer(BRACKETS)
    (prompt,) = load(tmp_path, tokenizer, template="chat", few_shot=SHOTS)
    assert prompt.text == f"<s>[INST] {SHOTS[0]['user']} [/INST] (B) </s><s>[INST] {QUESTION} [/INST]"
    assert prompt.token_ids == tuple(tokenizer(prompt.text, add_special_tokens=False).input_ids)


def test_a_chat_has_a_system_turn_shots_and_a_prefix(tmp_path):
    tokenizer = make_tokenizer()
    options = {"template": "chat", "system": "Be brief.", "few_shot": SHOTS}
    (prompt,) = load(tmp_path, tokenizer, **options)
    before = f"<s>[system]\nBe brief.\n[user]\n{SHOTS[0]['user']}\n[assistant]\n(B)\n[user]\n{QUESTION}\n[assistant]\n"
    assert (prompt.text, prompt.answer_format) == (before, "({letter})")
    assert prompt.letters == ("A", "B")  # of the question, and not of the shots
    (begun,) = load(tmp_path, tokenizer, **options, prefix="My answer is: (")
    assert (begun.text, begun.answer_format) == (f"{before}My answer is: (", "{letter})")
    a, b, shared = first_difference(begun, "A", tokenizer)
    assert (tokenizer.decode([a]), tokenizer.decode([b]), shared) == ("A", "B", ())
    (pair,) = load_pairs(write(tmp_path, [ROW]), tokenizer, **options, prefix="My answer is: (")
    assert pair.positive == (*begun.token_ids, *answer_tokens(begun, "A", tokenizer))
    assert (pair.positive_index, pair.negative_index) == (len(begun.token_ids),) * 2


def test_a_rows_own_turns_stand_before_its_question(tmp_path):
    turns = [
        {"role": "system", "content": "Be slow."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "text", "text": QUESTION}]},
    ]
    row = {"messages": turns, **{name: ROW[name] for name in ANSWERS}}
    tokenizer = make_tokenizer()
    (prompt,) = load(tmp_path, tokenizer, [row], template="chat", few_shot=SHOTS)
    words = [SHOTS[0]["user"], SHOTS[0]["assistant"], "Hello?", "Hello.", QUESTION]
    roles = ["user", "assistant"] * 2 + ["user"]
    middle = "".join(f"[{role}]\n{said}\n" for role, said in zip(roles, words, strict=True))
    assert prompt.text == f"<s>[system]\nBe slow.\n{middle}[assistant]\n"
    with pytest.raises(InputError, match=r"line 1: has a system turn of its own; leave \[prompts\] system out"):
        load(tmp_path, tokenizer, [row], template="chat", system="Be brief.")
    sides = {
        side: [*turns[1:3], {"role": "user", "content": "Jump?"}, {"role": "assistant", "content": said}]
        for side, said in (("positive", "No"), ("negative", "Yes"))
    }
    (pair,) = load_pairs(write(tmp_path, [sides]), tokenizer, template="chat")
    text = "<s>[user]\nHello?\n[assistant]\nHello.\n[user]\nJump?\n[assistant]\n"
    assert tokenizer.decode(pair.negative) == f"{text}Yes"
    assert pair.positive_index == len(tokenizer(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize(
    ("template", "prefix", "answers", "text", "form"),
    [
        ("{question}\n\nAnswer:", "(", (" (A)", " (B)"), "\n\nAnswer: (", "{letter})"),
        ("{question}\n\nAnswer:", "My answer is: (", (" (A)", " (B)"), "\n\nAnswer: My answer is: (", "{letter})"),
        ("{question}\n\nAnswer:", "(", ("A", "B"), "\n\nAnswer: (", "{letter}"),
        ("{question}\n", "(", ("(A)", "(B)"), "\n(", "{letter})"),
        ("{question}", " I say", ("Yes", "No"), " I say", " {letter}"),
        ("{question}", "I say ", ("Yes", "No"), " I say ", "{letter}"),
        ("{question} (", "", ("(A)", "(B)"), " (", "{letter})"),
        ("{question}", "", ("(A)", "(B)"), "", " ({letter})"),
    ],
)
def test_a_prefix_ends_a_format_string(tmp_path, template, prefix, answers, text, form):
    row = {**ROW, **dict(zip(ANSWERS, answers, strict=True))}
    (prompt,) = load(tmp_path, make_tokenizer(), [row], template=template, prefix=prefix)
    assert (prompt.text, prompt.answer_format) == (QUESTION + text, form)


def test_the_space_before_an_answer_is_the_chat_templates(tmp_path):
    """After ``[/INST]`` one writes a space; after the mark of other templates nothing, even if it ends in a word."""
    assert load(tmp_path, make_tokenizer(BRACKETS), template="chat")[0].answer_format == " ({letter})"
    tight = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    tight = tight.replace("{% endfor %}<assistant>", "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}")
    assert load(tmp_path, make_tokenizer(tight), template="chat")[0].answer_format == "({letter})"
    mute = "{{ messages[0].content }} [model]"  # which has no assistant's turns
    assert load(tmp_path, make_tokenizer(mute), template="chat")[0].answer_format == " ({letter})"
    begun = load(tmp_path, make_tokenizer(BRACKETS), template="chat", prefix="(")[0]
    assert begun.text.endswith("[/INST] (")


@pytest.mark.parametrize("prefix", ["(", "My answer is: ("])
def test_the_token_after_a_prefix_is_the_letter_without_a_space(tmp_path, prefix):
    """A tokenizer that puts a space before every text makes ``▁A`` of an answer that is tokenised alone."""
    tokenizer = make_tokenizer(spaces=True)
    (prompt,) = load(tmp_path, tokenizer, prefix=prefix)
    a, b, shared = first_difference(prompt, "A", tokenizer)
    assert tokenizer.convert_ids_to_tokens([a, b]) == ["A", "B"]
    assert shared == ()


def test_where_prefix_and_answer_would_be_one_token_the_prompt_keeps_its_own(tmp_path):
    """``(A`` is a token here, and ``▁A`` is what ``A`` alone becomes; after ``(`` it is ``A`` that a model writes."""
    tokenizer = make_tokenizer(spaces=True, text="(A[(A](A/(A:(B[(B](B/ A A A A: B B B B:")
    assert "(A" in tokenizer.convert_ids_to_tokens(tokenizer("x(A", add_special_tokens=False).input_ids)
    assert tokenizer.tokenize("A") == ["▁A"]
    (prompt,) = load(tmp_path, tokenizer, template="{question}(")
    a, b, shared = first_difference(prompt, "A", tokenizer)
    assert (tokenizer.convert_ids_to_tokens([a, b]), shared) == (["A", "B"], ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"system": "x"},
            r'\[prompts\] system goes with template = "chat"; in a format string write it where it belongs',
        ),
        ({"few_shot": SHOTS}, r"\[prompts\] few_shot goes with template"),
        ({"template": "chat", "few_shot": ({"user": "x"},)}, r"few_shot has \{'user': 'x'\}; each must have what the"),
        ({"template": "chat", "few_shot": ({"user": "x", "assistant": ""},)}, "each must have what the user asks"),
        (
            {"template": "chat", "prefix": " ("},
            r"does not keep the prefix ' \(': the text ends in .*without spaces around",
        ),
    ],
)
def test_what_does_not_go_together_is_told(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        load(tmp_path, make_tokenizer(TURNS.replace("{{ m.content }}", "{{ m.content.strip() }}")), **options)


def test_a_template_without_the_systems_turn_is_told(tmp_path):
    """By the template, or because it leaves it out without a word."""
    with pytest.raises(InputError, match=r"refuses it: no system turns; give a format string or leave \[prompts\]"):
        load(tmp_path, make_tokenizer(BRACKETS), template="chat", system="Be brief.")
    deaf = TURNS.replace("{% for m in messages %}", "{% for m in messages if m.role != 'system' %}")
    with pytest.raises(InputError, match=r"line 1: this model's chat template leaves out the system's turn 'Be br"):
        load(tmp_path, make_tokenizer(deaf), template="chat", system="Be brief.")
    with pytest.raises(InputError, match="leaves out the user's turn"):
        load(tmp_path, make_tokenizer("x"), template="chat")


def test_answers_of_several_tokens_part_where_they_differ(tmp_path):
    tokenizer = make_tokenizer()
    row = {"question": "q", "matching": "I would never", "not_matching": ["I would always", "I would"]}
    (prompt,) = load(tmp_path, tokenizer, [row])
    a, b, shared = first_difference(prompt, "I would never", tokenizer)
    assert tokenizer.decode(shared).strip() == "I would"
    assert "I would never".startswith(tokenizer.decode([*shared, a]).strip())
    assert "I would always".startswith(tokenizer.decode([*shared, b]).strip())
    (pair,) = load_pairs(write(tmp_path, [row]), tokenizer)
    assert pair.positive_index == len(prompt.token_ids) + len(shared)
    (prompt,) = load(tmp_path, tokenizer, [{**row, "not_matching": "I would"}])
    with pytest.raises(InputError, match="choose answers that it can tell apart, none of which begins the other"):
        first_difference(prompt, "I would never", tokenizer)
