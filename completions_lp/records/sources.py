"""Files that a person names -> their bytes and text: exactly the file named, of bounded size, or an error of one line.

No glob and no variable of the environment is expanded; only ``~`` is. What is no regular file (a folder, a device, a
pipe that would never end) is refused.
"""

import stat
from pathlib import Path

from completions_lp.records.base import InputError

LARGEST = 2**28
"""Bytes of a file that is read whole, as text: 256 MiB."""


def find_file(source: str | Path, *, largest: int | None = None) -> Path:
    """The path of a regular file, ``~`` expanded, at most ``largest`` bytes long.

    Raises:
        InputError: There is no such file, it is of another kind, or is too large.
    """
    try:
        path = Path(source).expanduser()
        found = path.stat()
    except FileNotFoundError:
        raise InputError(f"{source}: no such file") from None
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a user of ~ that does not exist
        raise InputError(f"{source}: cannot be read: {describe_cause(error)}") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise InputError(f"{source}: is {kind}; a file is needed")
    if largest is not None and found.st_size > largest:
        raise InputError(f"{source}: has {found.st_size} bytes; at most {largest} are read: split the file")
    return path


def read_bytes(source: str | Path, *, largest: int = LARGEST) -> bytes:
    """The content of a file; raises InputError as ``find_file`` does."""
    path = find_file(source, largest=largest)
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {describe_cause(error)}") from None


def read_text(source: str | Path, *, largest: int = LARGEST) -> str:
    """The content of a UTF-8 file, without a byte order mark; raises InputError also where it is no such text."""
    try:
        text = read_bytes(source, largest=largest).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: not UTF-8 text (byte {error.start})") from None
    if "\0" in text:
        raise InputError(f"{source}: not UTF-8 text: it has NUL characters (UTF-16 has); save it as UTF-8")
    return text


def is_failing(error: BaseException) -> bool:
    """Whether it is the system that cannot do it, a disk with an error or no permission, whatever the file holds."""
    return isinstance(error, OSError) and error.errno is not None


def describe_cause(error: BaseException) -> str:
    """What another package says is wrong, on one line, without the advice that follows; its name where it is mute."""
    words = (error.strerror or "") if isinstance(error, OSError) and error.errno is not None else str(error)
    text = " ".join(words.split())
    return (text if len(text) <= 300 else f"{text[:299]}…") or type(error).__name__
