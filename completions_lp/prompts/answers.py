"""How an answer is written after a prompt, in token ids: where the two answers of a prompt part."""

from completions_lp.records import InputError, Prompt, Tokenizer


def encode(tokenizer: Tokenizer, text: str, *, special: bool) -> tuple[int, ...]:
    """Token ids of a text; ``special`` adds the tokenizer's own (a BOS), which a chat template has written already."""
    return tuple(int(i) for i in tokenizer(text, add_special_tokens=special).input_ids)


def answer_tokens(prompt: Prompt, letter: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Token ids of an answer as it follows the prompt, for example `` (``, ``A``, ``)``.

    Prompt and answer are tokenised together, so that the seam is the tokenizer's own; where that would change the
    prompt's own tokens, the answer is tokenised alone.
    """
    special = prompt.token_ids == encode(tokenizer, prompt.text, special=True)
    answer = prompt.answer_format.replace("{letter}", letter)
    whole = encode(tokenizer, prompt.text + answer, special=special)
    n = len(prompt.token_ids)
    if whole[:n] == prompt.token_ids and len(whole) > n:
        return whole[n:]
    return encode(tokenizer, answer, special=False)


def first_difference(prompt: Prompt, letter: str, tokenizer: Tokenizer) -> tuple[int, int, tuple[int, ...]]:
    """Where the answer ``letter`` parts from the other one.

    Returns the token ids that tell the two apart (this answer's first), and the tokens that both share before them,
    such as `` (``.

    Raises:
        InputError: The tokenizer cannot express the difference.
    """
    ours, theirs = (answer_tokens(prompt, x, tokenizer) for x in (letter, prompt.other(letter)))
    unknown = getattr(tokenizer, "unk_token_id", None)
    for i, (a, b) in enumerate(zip(ours, theirs, strict=False)):
        if a != b:
            if unknown in (a, b):
                break
            return a, b, ours[:i]
    raise InputError(
        f"prompt {prompt.id!r}: the tokenizer cannot express the answer {letter!r} against {prompt.other(letter)!r}: "
        f"their token ids are {list(ours)} and {list(theirs)}; choose answers that it can tell apart"
    )
