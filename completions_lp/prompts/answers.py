"""How an answer is written after a prompt, in token ids: where the two answers of a prompt part."""

from collections.abc import Sequence

from completions_lp.records import InputError, Prompt, Tokenizer


def encode(tokenizer: Tokenizer, text: str, *, special: bool) -> tuple[int, ...]:
    """Token ids of a text; ``special`` lets the tokenizer add its own special tokens (a BOS).

    A chat template writes its special tokens itself, and adding them again would double the BOS.
    """
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


def pick_letters(prompts: Sequence[Prompt], target: str) -> tuple[tuple[str, str], ...]:
    """By prompt: the target answer (``"matching"`` means each prompt's own) and the one it is compared with.

    A prompt whose two answers do not include the target keeps its own two, the matching one first; what the report
    says of the target leaves that prompt out.

    Raises:
        InputError: No prompt offers the target.
    """
    if target != "matching" and not any(target in (prompt.matching, prompt.not_matching) for prompt in prompts):
        offered = sorted({letter for prompt in prompts for letter in (prompt.matching, prompt.not_matching)})
        raise InputError(
            f"target {target!r} is an answer of no prompt; theirs are {', '.join(offered)}. "
            "Name one of them, or 'matching' for each prompt's own"
        )
    return tuple(compare_letters(prompt, target) for prompt in prompts)


def compare_letters(prompt: Prompt, target: str) -> tuple[str, str]:
    """What ``pick_letters`` gives for one prompt, the target on offer (``prompt.compares(target)``) or not."""
    letter = prompt.not_matching if prompt.not_matching == target else prompt.matching
    return letter, prompt.other(letter)
