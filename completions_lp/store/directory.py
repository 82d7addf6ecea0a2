"""The run directory: ``run.json``, which stage writes which file, whose files they are, and who may write now."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from completions_lp.records import InputError, read_text
from completions_lp.store.files import PARTIAL, make_folder, remove_file, sync_folder, to_plain, write_text
from completions_lp.store.info import SCHEMA_VERSION, parse_info

STAGES: Mapping[str, tuple[str, ...]] = {
    "vector": (),
    "sample": ("questions.parquet", "completions.parquet"),
    "score": (
        *("scores.parquet", "measures.parquet", "seed_measures.parquet", "profile.parquet"),
        *("tokens.parquet", "steered.parquet", "choices.parquet", "readings.parquet", "validation.parquet"),
        *("doses.parquet", "doses.csv"),
    ),
    "report": (
        *("prompts.parquet", "summary.parquet", "summary.csv", "slopes.parquet", "slopes.csv"),
        *("swaps.parquet", "swaps.csv", "seeds.parquet", "seeds.csv", "rivals.parquet", "rivals.csv"),
        *("vectors.parquet", "vectors.csv"),
        *("off_target.parquet", "off_target.csv", "report.md", "report.html"),
    ),
}
"""Files that each stage writes; the vector stage has a folder of its own, ``vectors/``."""
OWN = (".lock", "units", "progress.json")
"""What stands in a run directory beside ``run.json`` and the files that it lists."""
WAIT = 0.2
"""Seconds to wait for a lock: as good as none, and longer than it takes to look whether there is one."""


def start_run(folder: Path, info: Mapping[str, Any]) -> None:
    """Make the run directory and its ``run.json``.

    Raises:
        InputError: No directory can be there, or one is that holds files and no run: what is in it is not ours.
    """
    check_owned(folder)
    make_folder(folder)
    write_info(folder, info)


def check_owned(folder: Path) -> None:
    """Raise InputError where a folder holds files and is no run directory: a run would write among them."""
    if folder.is_dir() and not (folder / "run.json").is_file():
        found = sorted(path.name for path in folder.iterdir() if path.name not in OWN and not _is_partial(path))
        if found:
            some = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
            raise InputError(f"{folder} holds files and no run ({some}): a run needs a directory of its own")


def is_held(folder: Path) -> bool:
    """Whether another process is at work in a run directory; where one cannot tell, in one that is read-only, no.

    Nothing is made, and a process that comes to hold it meanwhile waits the moment that this takes.
    """
    place = folder / OWN[0]
    if not place.is_file():
        return False
    lock = filelock.FileLock(place)
    try:
        lock.acquire(timeout=WAIT, poll_interval=WAIT / 20)
    except filelock.Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False


@contextmanager
def hold_run(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a run directory, which is made; the system ends this with the process.

    Raises:
        InputError: Another process is writing there, or the directory cannot be made or holds files and no run.
    """
    check_owned(folder)
    lock, missing = (
        filelock.FileLock(folder / OWN[0]),
        [path for path in (folder, *folder.parents) if not path.exists()],
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in missing:
            sync_folder(path.parent)
        lock.acquire(timeout=WAIT, poll_interval=WAIT / 20)
    except filelock.Timeout:
        raise InputError(f"{folder}: another process is at work there; wait for its end, or give another DIR") from None
    except OSError as error:
        raise _explain(folder, error) from None
    try:
        for path in filter(_is_partial, folder.rglob(f".*{PARTIAL}")):  # of a process that was killed as it wrote
            remove_file(path)
        yield
    finally:
        if not (folder / "run.json").exists():  # nothing came of it: it leaves nothing behind
            with suppress(OSError):  # the directory has gone meanwhile, or somebody put files there
                (folder / OWN[0]).unlink(missing_ok=True)
                for path in missing:
                    path.rmdir()
        lock.release()


def write_info(folder: Path, info: Mapping[str, Any]) -> None:
    """Write ``run.json``; NaN, which JSON does not know, becomes null."""
    plain = {"schema_version": SCHEMA_VERSION, **to_plain(info)}
    text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / "run.json", text + "\n")


def read_info(folder: Path) -> dict[str, Any]:
    """Read ``run.json``; raises InputError where there is none, or one that no run of this schema has written."""
    path = folder / "run.json"
    if not os.path.exists(path):  # noqa: PTH110  which raises for no name
        raise InputError(f"{folder}: not a run directory (no run.json)")
    return parse_info(path, read_text(path))


def claim_files(folder: Path, info: dict[str, Any], names: Sequence[str]) -> None:
    """Enter files that are about to be written into the list of those that are ours, ``files`` of ``run.json``.

    Raises:
        InputError: A file of that name is there and not on the list: somebody else's, which nothing may replace.
    """
    ours = set(info.get("files", ()))
    new = [name for name in names if name not in ours]
    foreign = [name for name in new if (folder / name).exists() or (folder / name).is_symlink()]
    if foreign:
        raise InputError(
            f"{folder / foreign[0]} is in the way: a file of that name is to be written, and this one is not of the "
            "run; move it elsewhere"
        )
    if new:
        info["files"] = sorted({*ours, *new})
        write_info(folder, info)


def list_files(folder: Path, within: str) -> list[Path]:
    """Files in one of the folders of a run directory that are the run's own and are there, by name."""
    ours = [folder / name for name in read_info(folder).get("files", ()) if name.startswith(f"{within}/")]
    return sorted(path for path in ours if path.is_file())


def list_stage(info: Mapping[str, Any], stage: str) -> list[str]:
    """Names of the run's own files that a stage wrote; figures go with the scores that they show."""
    folders = {"vectors": "vector", "figures": "score"}
    return [
        name for name in info.get("files", ()) if name in STAGES[stage] or folders.get(name.partition("/")[0]) == stage
    ]


def drop_stages(folder: Path, info: Mapping[str, Any], stages: Sequence[str]) -> list[str]:
    """Remove what these stages wrote, so that no stale table is ever read; returns the names of the files.

    Only what the run itself has listed in ``files`` is removed.
    """
    names = [name for stage in stages for name in list_stage(info, stage)]
    dropped = [name for name in names if (folder / name).is_file()]
    for name in dropped:
        remove_file(folder / name)
    return dropped


def _is_partial(path: Path) -> bool:
    return re.fullmatch(rf"\..+\.\w{{8}}{re.escape(PARTIAL)}", path.name) is not None


def _explain(folder: Path, error: OSError) -> InputError:
    return InputError(f"{folder}: cannot be made a run directory: {error.strerror or error}")
