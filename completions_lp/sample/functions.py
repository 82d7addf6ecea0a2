"""Functions of the user's own that label a text: named by who runs the command, never by a file of somebody else."""

import hashlib
import importlib
import inspect
import sys
from pathlib import Path
from typing import NoReturn

from completions_lp.records import InputError, LabelFunction, name_function

SHOWN = 80
"""Characters of a text that an error shows."""


def load_function(name: str) -> LabelFunction:
    """The function that ``"module:function"`` names; importing it runs its module.

    Modules of the current folder are found too, after all others, so that none of these hides one of Python's. Call
    this for a name that the user has given by a command, a file or code of their own, and for no other.

    Raises:
        InputError: There is no such module or function, or the module cannot be imported.
    """
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    sys.path.append(here)
    try:
        found = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except Exception as error:  # the user's module may raise whatever it likes while it is imported
        told = f"{type(error).__name__}: {error}"
        raise InputError(
            f"[label] function {name!r} cannot be imported from {here} or Python's path: {told}"
        ) from error
    finally:
        del sys.path[len(sys.path) - 1 - sys.path[::-1].index(here)]
    if not callable(found):
        raise InputError(f"[label] function {name!r} is {type(found).__name__}, which cannot be called with a text")
    called: LabelFunction = found
    return called


def refuse_name(name: str) -> NoReturn:
    """Raise the InputError that a function is known by its name only, which nobody who may has said to call."""
    raise InputError(
        f"[label] function {name!r} is named by a stored run, and nothing that the file of a run names is called "
        f"unasked: if it is yours, say so with --set label.function={name} (plan: --function {name}), or in code put "
        "the function itself in its place"
    )


def hash_function(function: LabelFunction) -> str:
    """Stands for what a function does: sha256 of the file of its module, or of its own source where it has none."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
        text = Path(file).read_bytes() if file and Path(file).is_file() else inspect.getsource(function).encode()
    except (TypeError, OSError) as error:
        raise InputError(
            f"[label] function {name_function(function)!r} has no source that can be read ({error}): define it with "
            "def in a module, so that a change of it is noticed"
        ) from None
    return hashlib.sha256(text).hexdigest()


def call_function(function: str | LabelFunction, text: str, where: str) -> str:
    """The label of a text, ``""`` for none; ``where`` says whose text it is.

    Raises:
        InputError: The function is known by its name only, raises whatever, or gives something that is no text.
    """
    if isinstance(function, str):
        refuse_name(function)
    name, shown = name_function(function), text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
    try:
        label = function(text)
    except Exception as error:  # the user's function may raise whatever it likes
        told = f"{type(error).__name__}: {error}"
        raise InputError(f"[label] function {name!r} raised {told} on {where}, {shown!r}") from error
    if label is not None and not isinstance(label, str):
        raise InputError(
            f"[label] function {name!r} gave {label!r} for {where}, {shown!r}; it must give the label as text, or None"
        )
    return str(label or "")
