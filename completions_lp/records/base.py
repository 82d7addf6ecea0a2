"""What all records share: the error for wrong input, the options that have names, and read-only arrays."""

import unicodedata
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Kind = Literal["baseline", "target", "negated", "random", "shuffled", "orthogonal", "further", "rounding", "rival"]
Positions = str
"""Which tokens are steered: ``completion`` (whatever follows the prompt, from its last token on), ``all``, ``prompt``
(its last token, too), or ``first:N`` (N tokens from the last of the prompt on, which bear on the first N said)."""
POSITIONS = r"completion|all|prompt|first:[1-9][0-9]{0,5}"
Operation = Literal["add", "ablate", "clamp"]
Rule = Literal["letter", "token", "substring", "regex", "final_answer", "python"]
Through = Literal["end", "window", "answer"]

PARTIAL = "\ufffd"
"""What decoders write for the bytes of a character that is not whole yet."""


MESSAGE = 2000
"""Characters of an error's message; what stands in the middle of a longer one is left out."""
_KEPT = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
"""Format characters that belong to words and emoji."""


class InputError(ValueError):
    """The input is wrong: the message says what was got, what was needed and what to do. Exit code 2.

    The message is one line of at most ``MESSAGE`` characters, all of them visible, whatever names and texts of files,
    or messages of other packages, it was made of.
    """

    def __init__(self, message: object = "") -> None:
        text = "".join(map(show_sign, str(message)))
        half = MESSAGE // 2 - 1
        super().__init__(text if len(text) <= MESSAGE else f"{text[:half]}…{text[-half:]}")


def is_plain(sign: str) -> bool:
    """Whether a character may stand as it is: no control, format (bidi), line or paragraph separator, no surrogate."""
    return sign in _KEPT or unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def show_sign(sign: str) -> str:
    """A character that may stand as it is, or else the escape code by which it becomes visible."""
    return sign if is_plain(sign) else sign.encode("unicode_escape").decode()


class Notice(UserWarning):
    """What the user should know of a run that goes on all the same."""


class OutOfRoom(InputError):  # noqa: N818 - what it says, like the standard library's TimeoutExpired
    """One item does not fit in memory, not even alone in a pass: a run can leave it out and go on with the others."""

    def __init__(self, message: str, *, item: str, prompt_id: str | None = None) -> None:
        super().__init__(message)
        self.item = item
        """What it is, in words, with its size."""
        self.prompt_id = prompt_id
        """The prompt that it is of; None where it is of no prompt (a contrast pair)."""

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, which makes errors anew from their message alone."""
        return partial(type(self), item=self.item, prompt_id=self.prompt_id), self.args


class NotFinite(InputError):  # noqa: N818
    """The model gives no distribution to draw from after a prompt: its logits are NaN, infinite, or all -inf."""

    def __init__(self, message: str, *, prompt_id: str) -> None:
        super().__init__(message)
        self.prompt_id = prompt_id

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle, as of ``OutOfRoom``."""
        return partial(type(self), prompt_id=self.prompt_id), self.args


@runtime_checkable
class Tokenizer(Protocol):
    """What this package uses of a transformers tokenizer outside ``model``."""

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> Any:
        """Encode ``text``; the result's ``input_ids`` are its token ids."""

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> Any:
        """The text of one sequence of token ids."""


def require(condition: bool, message: str) -> None:
    """Raise InputError with this message unless the condition holds."""
    if not condition:
        raise InputError(message)


def freeze(record: object, *names: str) -> None:
    """Make the named arrays of a record read-only, as views: the caller's own arrays stay as they were."""
    for name in names:
        view = np.asarray(getattr(record, name)).view()
        view.flags.writeable = False
        object.__setattr__(record, name, view)
