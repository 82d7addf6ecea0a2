"""The machine that a run is on: what it is, what is installed, and how much of its memory a stage took."""

import importlib.metadata
import importlib.util
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from completions_lp.records import InputError

PACKAGES = ("completions-lp", "nnsight", "torch", "transformers", "datasets", "tokenizers", "numpy", "scipy")
"""Those on which the numbers of a run depend."""
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def describe_machine() -> dict[str, Any]:
    """Processor, cores that this process may use, system."""
    return {
        "processor": _name_processor(),
        "cores": count_cores(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_ray() -> None:
    """Raise InputError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise InputError(
            "[run] workers and address need Ray, which is not installed: pip install 'completions-lp[ray]', or leave "
            "them out"
        )


def list_versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that a run depends on; None where one is not installed."""
    return {name: _find_version(name) for name in PACKAGES} | {"python": platform.python_version()}


def reset_peak() -> None:
    """Count the peak anew from here, where the system allows it (Linux); elsewhere it stays that of the process."""
    try:
        _RESET.write_text("5")
    except OSError:
        return


def read_peak() -> float:
    """The most memory that this process held in RAM (its resident set), in GiB.

    On Linux since ``reset_peak``; on Windows (by psutil) and elsewhere (by getrusage) since the process began.
    """
    try:
        lines = _STATUS.read_text().splitlines()
        return next(int(line.split()[1]) / 2**20 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    if psutil.WINDOWS:
        return float(psutil.Process().memory_info().peak_wset / 2**30)
    import resource  # not on Windows

    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if psutil.MACOS else 2**20))


@cache  # every unit's key asks
def _find_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _name_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
