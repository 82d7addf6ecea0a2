"""How a text and the answer after it are written in token ids: one beginning, and where two answers part."""

from completions_lp.records import InputError, Prompt, Tokenizer

OPENING = ("(", "[", "{")
"""After which no space stands."""


def encode(tokenizer: Tokenizer, text: str, *, special: bool = False) -> tuple[int, ...]:
    """Token ids of a text; with ``special`` the tokenizer adds its own, such as a BOS."""
    return tuple(int(i) for i in tokenizer(text, add_special_tokens=special).input_ids)


def encode_text(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Token ids of a text with the tokenizer's beginning (a BOS) before it, once: a chat template may write it, too.

    What a tokenizer puts after a text, such as an end of sequence, is left out: the text goes on.
    """
    begin, bare = _find_beginning(tokenizer, text)
    return bare if bare[: len(begin)] == begin else begin + bare


def check_beginning(tokenizer: Tokenizer, text: str, ids: tuple[int, ...], where: str) -> None:
    """Raise InputError unless the ids of a text begin with the tokenizer's beginning, if it has one, and only once."""
    begin, bare = _find_beginning(tokenizer, text)
    bos = begin or tuple(i for i in (getattr(tokenizer, "bos_token_id", None),) if i is not None)
    n = len(bos)
    if begin and ids[:n] != begin:
        raise InputError(
            f"{where}: the prompt does not begin with {_show(tokenizer, begin)}, which this tokenizer puts before "
            f"every text: its first token ids are {list(ids[:4])}"
        )
    again = [n] if n and ids[: 2 * n] == bos + bos else []
    if begin and begin[0] != getattr(tokenizer, "eos_token_id", None) and bare[:n] != begin:
        again += [i for i in range(n, len(ids)) if ids[i] == begin[0]]  # the text has one, and not where it begins
    if again:
        raise InputError(
            f"{where}: the prompt has {_show(tokenizer, bos)}, which begins a text, twice, at tokens 0 and {again[0]}: "
            f"the text begins {text[:40]!r}; leave it out of the template and the question, it is put there anyway"
        )


def _find_beginning(tokenizer: Tokenizer, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the tokenizer puts before a text by itself, a BOS or nothing, and the ids of the text without it."""
    bare, whole = encode(tokenizer, text), encode(tokenizer, text, special=True)
    if not bare:
        return whole, bare
    places = [i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare]
    return (whole[: places[0]], bare) if places else ((), whole)


def form_answer(text: str, seam: str, before: str, after: str) -> str:
    """How an answer is written after a text, with ``{letter}`` for the answer: `` ({letter})``.

    ``before`` and ``after`` are what the file has around it. What the text ends in already, such as ``(``, is not
    written again; ``seam`` stands between them unless the text ends in a space or a bracket.
    """
    before = before.strip()
    if before and text.endswith(before):
        before = ""
    lead = "" if text[-1:].isspace() or text.endswith(OPENING) else seam
    return f"{lead}{before}{{letter}}{after.strip()}"


def continue_text(text: str, token_ids: tuple[int, ...], answer: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Token ids of an answer after a text.

    Both are tokenised together, so that the seam is the tokenizer's own; where that would change the text's own tokens,
    the answer is tokenised alone, without the space that some tokenizers put before every text.
    """
    whole, n = encode_text(tokenizer, text + answer), len(token_ids)
    if whole[:n] == token_ids and len(whole) > n:
        return whole[n:]
    alone = encode(tokenizer, answer)
    last = token_ids[-1:]
    if _decode(tokenizer, last + alone) == _decode(tokenizer, last) + answer:
        return alone
    line = encode(tokenizer, "\n")
    below = encode(tokenizer, "\n" + answer)
    return below[len(line) :] if below[: len(line)] == line and len(below) > len(line) else alone


def answer_tokens(prompt: Prompt, letter: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Token ids of an answer as it follows the prompt, for example `` (``, ``A``, ``)``."""
    answer = prompt.answer_format.replace("{letter}", letter)
    return continue_text(prompt.text, prompt.token_ids, answer, tokenizer)


def first_difference(prompt: Prompt, letter: str, tokenizer: Tokenizer) -> tuple[int, int, tuple[int, ...]]:
    """Where the answer ``letter`` parts from the other one.

    Returns the token ids that tell the two apart (this answer's first), and the tokens that both share before them,
    such as `` (``.

    Raises:
        InputError: The tokenizer cannot express the difference.
    """
    ours, theirs = (answer_tokens(prompt, x, tokenizer) for x in (letter, prompt.other(letter)))
    shared = count_shared(ours, theirs, (letter, prompt.other(letter)), tokenizer, f"prompt {prompt.id!r}")
    return ours[shared], theirs[shared], ours[:shared]


def find_part(ours: tuple[int, ...], theirs: tuple[int, ...], tokenizer: Tokenizer) -> int | None:
    """How many tokens two answers have in common before they part; None where they do not, or one token is unknown."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    part = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    return None if part is None or unknown in (ours[part], theirs[part]) else part


def count_shared(
    ours: tuple[int, ...], theirs: tuple[int, ...], answers: tuple[str, str], tokenizer: Tokenizer, where: str
) -> int:
    """How many tokens two answers have in common before they part; raises InputError where they do not part."""
    part = find_part(ours, theirs, tokenizer)
    if part is not None:
        return part
    raise InputError(
        f"{where}: the tokenizer cannot express the answer {answers[0]!r} against {answers[1]!r}: their token ids are "
        f"{list(ours)} and {list(theirs)}; choose answers that it can tell apart, none of which begins the other"
    )


def _decode(tokenizer: Tokenizer, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids)))


def _show(tokenizer: Tokenizer, ids: tuple[int, ...]) -> str:
    return repr(_decode(tokenizer, ids))
