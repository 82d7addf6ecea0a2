"""Two texts in token ids -> a contrast pair: where each of them is read."""

from completions_lp.records import ContrastPair, InputError

MEANS = ("response_mean", "prompt_mean")
"""Ways to read several tokens of a text at once."""
READ = "'letter', 'last', 'response_mean', 'prompt_mean'"


def make_pair(positive: tuple[int, ...], negative: tuple[int, ...], read_token: str | int, where: str) -> ContrastPair:
    """A pair of plain texts, which are read at their last token unless an index is given.

    Raises:
        InputError: The token is not there, or a mean over a prompt or a response is asked for, which they have not.
    """
    if read_token in MEANS:
        raise InputError(
            f"{where}: read_token is {read_token!r}, and plain texts do not say where a prompt ends and a response "
            "starts; give 'positive' and 'negative' with 'prompt' and 'response' each, or read them at 'last'"
        )
    at = "last" if read_token == "letter" else read_token
    return ContrastPair(positive, negative, _find_token(positive, at, where), _find_token(negative, at, where))


def join_pair(
    prompts: tuple[tuple[int, ...], tuple[int, ...]],
    responses: tuple[tuple[int, ...], tuple[int, ...]],
    part: int | None,
    read_token: str | int,
    where: str,
    *,
    told: bool,
) -> ContrastPair:
    """A pair of prompts with a response each, which begin with ``part`` tokens alike.

    ``told`` is whether the responses tell the two texts apart; where they do not, their letter is their last token.

    Raises:
        InputError: The token is not there, a response is empty, or both prompts, whose means are to be taken, are one.
    """
    texts = prompts[0] + responses[0], prompts[1] + responses[1]
    starts = len(prompts[0]), len(prompts[1])
    if read_token == "prompt_mean":
        if prompts[0] == prompts[1]:
            raise InputError(
                f"{where}: read_token is 'prompt_mean', and both texts have one prompt, so their difference is zero "
                "there; give two prompts ('positive' and 'negative' with 'prompt' and 'response' each), or read the "
                "'response_mean'"
            )
        return ContrastPair(*texts, starts[0] - 1, starts[1] - 1, *starts, part, "prompt")
    if read_token == "response_mean":
        if not responses[0] or not responses[1]:
            raise InputError(f"{where}: read_token is 'response_mean', and a response is empty; leave the row out")
        return ContrastPair(*texts, len(texts[0]) - 1, len(texts[1]) - 1, *starts, part, "response")
    if read_token == "letter" and told and part is not None:
        return ContrastPair(*texts, starts[0] + part, starts[1] + part, *starts, part)
    at = "last" if read_token == "letter" else read_token
    return ContrastPair(*texts, _find_token(texts[0], at, where), _find_token(texts[1], at, where), *starts, part)


def _find_token(ids: tuple[int, ...], read_token: str | int, where: str) -> int:
    if read_token == "last":
        return len(ids) - 1
    if isinstance(read_token, int) and -len(ids) <= read_token < len(ids):
        return read_token % len(ids)
    raise InputError(f"{where}: read_token is {read_token!r}; needs {READ} or an index into the {len(ids)} tokens")
