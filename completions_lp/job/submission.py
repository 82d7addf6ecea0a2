"""A run as a job array, through submitit: the vectors, then a share for each job, then the tables and the report.

Every job runs a command that a person could give. One that dies loses the unit at work; what it leaves undone the last
job does, or the same submission once more.
"""

import importlib
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from completions_lp.records import InputError, describe_cause

Executor = Literal["slurm", "local"]
MINUTES = 24 * 60
"""What a job may take where nobody says."""


@dataclass(frozen=True)
class Resources:
    """What a job asks for; what is None is left to the cluster."""

    partition: str | None = None
    minutes: int = MINUTES
    gpus: int | None = None
    memory: str | None = None
    """Such as ``64GB``."""
    cpus: int | None = None
    at_once: int | None = None
    """Jobs of the array that may run at a time."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Further options of sbatch, by their long names."""


@dataclass(frozen=True)
class Submission:
    """Jobs by their ids: of the vectors, of each share, of the report."""

    vector: str
    shares: tuple[str, ...]
    report: str


@dataclass(frozen=True)
class Command:
    """A command of this package as a job."""

    words: tuple[str, ...]

    def __call__(self) -> None:
        """Run it in a process of its own; raises CalledProcessError where it fails. A report with an ERROR is made."""
        command = [sys.executable, "-m", "completions_lp", *self.words]
        code = subprocess.run(command, check=False).returncode
        if code not in (0, 3):
            raise subprocess.CalledProcessError(code, shlex.join(command))

    def checkpoint(self) -> Any:
        """What is to be done where a job is stopped by its time limit or by another one: the same, which goes on."""
        return importlib.import_module("submitit").helpers.DelayedSubmission(self)


def submit_run(
    folder: Path,
    words: Sequence[str],
    config: Path | None,
    jobs: int,
    resources: Resources,
    *,
    executor: Executor = "slurm",
    logs: Path,
) -> Submission:
    """Submit a run in a directory, as ``jobs`` shares; ``words`` are its options, ``--set`` and what follows.

    With the local executor everything is done when this returns, else nothing is.

    Raises:
        InputError: submitit is not installed, there is no Slurm, or it refuses an option; with the local executor also
            where a job fails that others need.
    """
    where = str(folder.absolute())
    given = [] if config is None else [str(config.absolute())]
    first = Command(("vector", where, *(["--config", *given] if given else []), *words, "--quiet"))
    shares = [Command(("share", where, *given, "--part", f"{k}/{jobs}", *words, "--quiet")) for k in range(jobs)]
    last = Command(("run", *given, "--out", where, *words, "--quiet"))
    try:
        opened = _open(executor, logs)
        vector = _submit(opened, executor, resources, "vector", [first], None)
        done = _submit(opened, executor, resources, "share", shares, f"afterok:{vector[0].job_id}")
        array = done[0].job_id.partition("_")[0]
        report = _submit(opened, executor, resources, "report", [last], f"afterany:{array}")
    except RuntimeError as error:  # as submitit tells what sbatch says
        raise InputError(f"{executor} does not take the jobs: {describe_cause(error)}") from None
    return Submission(vector[0].job_id, tuple(job.job_id for job in done), report[0].job_id)


def _open(executor: Executor, logs: Path) -> Any:
    try:
        submitit = importlib.import_module("submitit")
    except ImportError:
        raise InputError('submit needs submitit, which is not installed; pip install "completions-lp[slurm]"') from None
    kind = submitit.LocalExecutor if executor == "local" else submitit.SlurmExecutor
    try:
        opened = kind(folder=logs, max_num_timeout=100)
    except RuntimeError:
        raise InputError(
            "there is no Slurm here: srun is not found; submit from a login node, or with --executor local"
        ) from None
    return opened


def _submit(
    opened: Any, executor: Executor, resources: Resources, step: str, commands: Sequence[Command], after: str | None
) -> list[Any]:
    """Submit the jobs of a step, once another one is over. Local jobs are waited for."""
    if executor == "local":
        opened.update_parameters(timeout_min=resources.minutes, gpus_per_node=resources.gpus or 0)
        jobs = [opened.submit(command) for command in commands]
        failed = [error for job in jobs for error in [job.exception()] if error is not None]
        if failed and step != "share":  # what a share leaves undone, the run does
            raise InputError(f"the {step} job has failed; its log is {jobs[0].paths.stderr}")
        return jobs
    opened.update_parameters(**_name_parameters(opened, resources, step, after))
    return list(opened.submit_array(commands)) if len(commands) > 1 else [opened.submit(commands[0])]


def _name_parameters(opened: Any, resources: Resources, step: str, after: str | None) -> dict[str, Any]:
    """What submitit calls the options of a step."""
    asked: dict[str, Any] = {
        "job_name": f"completions-lp-{step}",
        "partition": resources.partition,
        "time": resources.minutes,
        "gpus_per_node": resources.gpus,
        "mem": resources.memory,
        "cpus_per_task": resources.cpus,
        "array_parallelism": resources.at_once,
        "dependency": after,
    }
    known, more = opened._valid_parameters(), {}
    for name, value in resources.more.items():
        key = name.replace("-", "_")
        if key in asked or key == "array":
            raise InputError(f"--slurm {name}={value}: that is set by submit itself, or by an option of its own")
        if key in known:
            asked[key] = value
        else:
            more[name] = value
    given = {name: value for name, value in asked.items() if value is not None}
    return {**given, **({"additional_parameters": more} if more else {})}
