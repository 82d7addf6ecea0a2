"""Where finished units live: a folder, or a place at a URL that many machines share, through fsspec.

A folder's files come to be by rename. At a URL there is none: an object that is put whole is there whole or not at all,
two writers of one unit put the same numbers, and where a file system does put halves, a unit that is cut short tells so
by itself. Names in such a place are untrusted: they are looked at by their last part, and only if they are of units.
"""

import importlib
import io
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from completions_lp.records import InputError, describe_cause
from completions_lp.store.files import Vanished, make_folder, replace_file

if TYPE_CHECKING:
    from upath import UPath

    Place = Path | UPath
else:  # upath is imported where a place has a URL, and only there
    Place = Any

PACKAGES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""By protocol, the extra that has what it needs."""
LOCAL = ("", "file", "local")
TAIL = 2**18
"""Bytes of an object in which its metadata mostly are."""
MARK = "completions_lp.txt"
"""What is put into a place before any work is done: that it can be written to is known then."""
_SAID = b"Finished work of completions-lp, in units/. Runs find it again by its names: rename and edit nothing.\n"
_FAILURES = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "google.auth.exceptions": ("GoogleAuthError",),
    "gcsfs.retry": ("HttpError",),
    "aiohttp": ("ClientError",),
}
"""What the packages behind a protocol raise that is no error of the operating system."""


def open_place(given: str) -> Place:
    """The place that a URL names, or a path; ``file://`` is a path. Nothing is read or made there.

    Raises:
        InputError: No package for the protocol is installed, or there is none such.
    """
    protocol, found, _ = given.partition("://")
    if not found:
        return Path(given).expanduser().absolute()
    try:
        from upath import UPath

        # Listings are of the moment: other machines put units there meanwhile.
        options: dict[str, Any] = {} if protocol in LOCAL else {"use_listings_cache": False}
        with warnings.catch_warnings():  # that it does not know a protocol itself, which fsspec does
            warnings.simplefilter("ignore")
            place: UPath = UPath(given, **options)
        if protocol in LOCAL:
            return Path(place.path).absolute()
        _ = place.fs
    except ImportError as error:
        extra = PACKAGES.get(protocol, "store")
        raise InputError(
            f"the store {_hide(given)} needs a package that is not installed: {describe_cause(error)}; "
            f'pip install "completions-lp[{extra}]"'
        ) from None
    except (ValueError, TypeError) as error:
        raise InputError(
            f"the store {_hide(given)} has a protocol or options that fsspec does not know: {describe_cause(error)}; "
            "give a path, file:///…, s3://BUCKET/…, gs://BUCKET/…"
        ) from None
    except list_failures() as error:
        raise InputError(f"the store {_hide(given)} cannot be opened: {describe_cause(error)}") from None
    return place


def check_place(place: Place) -> None:
    """Raise InputError where a place cannot be written to: no credentials, say, no such bucket, a read-only disk."""
    mark = place / MARK
    if read_file(mark) != _SAID:
        write_file(mark, lambda file: file.write(_SAID))


def is_remote(place: Place) -> bool:
    """Whether a place has a URL, and each look at it is a request."""
    return not isinstance(place, Path)


def write_file(path: Place, write: Callable[[BinaryIO], Any]) -> None:
    """Have a file written, which is there once it is whole, and not at all if that fails; its folder is made.

    Raises:
        InputError: It cannot be written.
    """
    if isinstance(path, Path):
        make_folder(path.parent)
        try:
            with replace_file(path) as file:
                write(file)
        except Vanished:  # a run began in this directory, and has tidied up
            with replace_file(path) as file:
                write(file)
        return
    content = io.BytesIO()
    write(content)
    with refuse_remote(path, "written"):
        try:
            path.fs.pipe_file(path.path, content.getvalue())
        except FileNotFoundError:
            if path.protocol in PACKAGES:
                raise  # there are no folders, and a bucket is not ours to make
            path.fs.makedirs(path.parent.path, exist_ok=True)
            path.fs.pipe_file(path.path, content.getvalue())


def read_file(path: Place) -> bytes | None:
    """The bytes of a file, None where there is none; raises InputError where it cannot be read."""
    with refuse_remote(path, "read"):
        try:
            found: bytes = path.read_bytes() if isinstance(path, Path) else path.fs.cat_file(path.path)
        except (FileNotFoundError, IsADirectoryError):
            return None
    return found


def open_source(path: Place, *, tail: bool = False) -> Any:
    """What a Parquet reader takes: a path, or the bytes of an object; of its ``tail`` alone, which has the metadata.

    Raises:
        FileNotFoundError: There is none.
        InputError: It cannot be read.
    """
    if isinstance(path, Path):
        return path
    with refuse_remote(path, "read"):
        content = path.fs.cat_file(path.path, start=-TAIL) if tail else b""
        # The last eight bytes of a Parquet file are the length of its metadata, and its mark.
        if len(content) < 8 + int.from_bytes(content[-8:-4], "little"):
            content = path.fs.cat_file(path.path)
    return pa.BufferReader(content)


def list_folder(folder: Place) -> list[str]:
    """Names of the files in a folder, in order and in one listing; none where there is no folder."""
    try:
        with refuse_remote(folder, "listed"):
            if isinstance(folder, Path):
                return sorted(path.name for path in folder.iterdir())
            return sorted(_name(entry["name"]) for entry in folder.fs.ls(folder.path, detail=True))
    except (FileNotFoundError, NotADirectoryError):
        return []


def list_tree(folder: Place) -> dict[str, int]:
    """Names within a folder, with ``/``, and sizes of all files below it, in one listing where it has a URL."""
    if isinstance(folder, Path):
        paths = [path for path in folder.glob("*/*/*.parquet") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    try:
        with refuse_remote(folder, "listed"):
            found: Mapping[str, Any] = folder.fs.find(folder.path, detail=True)
    except FileNotFoundError:
        return {}
    return {"/".join(path.split("/")[-3:]): int(entry["size"] or 0) for path, entry in found.items()}


@contextmanager
def refuse_remote(path: Place, what: str) -> Iterator[None]:
    """Let whatever a file system says that it cannot do be an InputError of one line; a missing file stays one."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        if what == "written":
            raise InputError(f"{_hide(str(path))}: cannot be written: there is no such bucket or folder") from None
        raise
    except list_failures() as error:
        raise InputError(
            f"{_hide(str(path))}: cannot be {what}: {describe_cause(error)}; once it can, the same command goes on"
        ) from None


def list_failures() -> tuple[type[BaseException], ...]:
    """What says that the system, the network or the credentials fail: of the packages that have been imported."""
    found: list[type[BaseException]] = [OSError, NotImplementedError]
    for module, names in _FAILURES.items():
        if module in sys.modules:
            loaded = importlib.import_module(module)
            found += [getattr(loaded, name) for name in names if hasattr(loaded, name)]
    return tuple(found)


def _name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _hide(url: str) -> str:
    """A URL without what stands before an @, which may be a password."""
    protocol, found, rest = url.partition("://")
    return f"{protocol}://{rest.rpartition('@')[2]}" if found else url
