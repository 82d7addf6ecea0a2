"""How far a run is, for whoever asks while it goes: ``progress.json``, which the run removes as it ends."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from completions_lp.store.files import PARTIAL, remove_file

FILE = "progress.json"


def write_progress(folder: Path, told: Mapping[str, Any]) -> None:
    """Write it anew, in one step; not for the disk to remember, and where it cannot be written, it is left out."""
    partial = folder / f".{FILE}.progress{PARTIAL}"
    with suppress(OSError):
        partial.write_text(json.dumps(told) + "\n", encoding="utf-8")
        os.replace(partial, folder / FILE)  # noqa: PTH105  atomic, also over an existing file


def read_progress(folder: Path) -> dict[str, Any] | None:
    """What it tells; None where there is none, or none that can be read."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def drop_progress(folder: Path) -> None:
    """Remove it, if it is there."""
    remove_file(folder / FILE)
