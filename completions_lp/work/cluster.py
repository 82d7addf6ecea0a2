"""The one module that knows Ray: a cluster of this machine alone, made for one run, or one that was there before.

Who is on such a cluster can run whatever code he likes. So the one that is made here has a token of its own, listens to
this machine alone, and goes with the run, as do its files.
"""

import importlib.util
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from completions_lp.records import InputError
from completions_lp.records.base import Notice
from completions_lp.work.machine import check_ray, count_cores
from completions_lp.work.worker import Worker

_OWN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""What Ray is told by the environment where the cluster is ours. That who joins needs a token is its own default."""
HERE = "127.0.0.1"
_TOKEN = secrets.token_hex(32)
"""Ray keeps the first token that it has seen in a process."""


@dataclass(frozen=True)
class Share:
    """What each worker has of its node."""

    cpus: int
    gpus: int
    threads: int


class Cluster:
    """A Ray cluster, and the workers on it that are ours."""

    def __init__(self, address: str, workers: int, *, device: str, gpus: int) -> None:
        self.address, self.workers = address, workers
        self._device, self._gpus = device, gpus
        self._folder: Path | None = None
        self._joined = False
        self._environment: dict[str, str | None] = {}
        self._actors: list[Any] = []
        self.share: Share | None = None

    def start(self) -> None:
        """Make or join the cluster.

        Raises:
            InputError: There is no cluster at the address, it is of another version, or has too few GPUs.
        """
        if self.share is not None:
            return
        check_ray()
        if not self.address:
            self._settle()
        import ray

        self._joined = ray.is_initialized()
        if not self._joined:
            with _quietly():
                self._connect()
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.share = share_nodes(nodes, self.workers, gpus=self._count_gpus(nodes), own=not self.address)

    def _settle(self) -> None:
        """A folder for a cluster of our own, and what Ray is told by the environment, before it is imported."""
        self._folder = Path(tempfile.mkdtemp(prefix="clp-"))
        token = self._folder / "token"
        token.touch(mode=0o600)
        token.write_text(_TOKEN)
        told = {**_OWN, "RAY_AUTH_TOKEN_PATH": str(token)}
        self._environment = {name: os.environ.get(name) for name in told}
        os.environ |= told

    def _connect(self) -> None:
        import ray

        quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "include_dashboard": False}
        try:
            if self.address:
                del quiet["include_dashboard"]
                ray.init(address=self.address, **quiet)
                return
            cpus = max(self.workers, count_cores())
            with _listen_here():
                ray.init(num_cpus=cpus, _temp_dir=str(self._folder), _node_ip_address=HERE, **quiet)
            if ray.nodes()[0]["NodeManagerAddress"] != HERE:
                told = "this version of Ray listens beyond this machine, where a token guards it"
                warnings.warn(told, Notice, stacklevel=2)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            self.close()
            where = f"--address {self.address}: no Ray cluster can be joined there" if self.address else "Ray: no start"
            told = " ".join(str(error).split())[:300]
            raise InputError(f"{where} ({told}); `ray start --head` makes one, `ray status` tells of it") from None

    def _count_gpus(self, nodes: Sequence[Mapping[str, float]]) -> int:
        """GPUs of a worker: none where the model is asked for elsewhere, or where the cluster has none."""
        there = sum(node.get("GPU", 0) for node in nodes)
        if self._device.partition(":")[0] not in ("auto", "cuda") or (not there and self._device == "auto"):
            return 0
        if self._device.startswith("cuda:"):
            raise InputError(f"[model] device {self._device!r} is one GPU, and each worker has its own: use cuda")
        if not self.address and there < self._gpus * self.workers:
            raise InputError(
                f"{self.workers} workers of {self._gpus} GPUs each, and this machine has {there:.0f}: use fewer, or "
                '[model] device = "cpu"'
            )
        return self._gpus

    def spawn(self) -> Any:
        """Begin a worker; it waits until the cluster has room for it."""
        import ray

        assert self.share is not None  # noqa: S101  by start
        remote = ray.remote(Worker).options(
            num_cpus=self.share.cpus,
            num_gpus=self.share.gpus,
            max_restarts=0,  # whoever dies is replaced by another one, wherever there is room
            scheduling_strategy="SPREAD",
        )
        actor = remote.remote(str(Path.cwd()), self.share.threads)
        self._actors.append(actor)
        return actor

    def dismiss(self, actor: Any) -> None:
        """End a worker, if it has not ended."""
        import ray

        self._actors.remove(actor)
        ray.kill(actor, no_restart=True)

    def close(self) -> None:
        """End all workers, and the cluster if it is ours; what it has left is removed."""
        if importlib.util.find_spec("ray") is None:
            return
        import ray

        if ray.is_initialized():
            for actor in list(self._actors):
                self.dismiss(actor)
            if not self._joined:
                ray.shutdown()
        self._actors, self.share = [], None
        if self._folder is not None:
            _remove(self._folder)
            self._folder = None
        for name, value in self._environment.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        self._environment = {}


def share_nodes(nodes: Sequence[Mapping[str, float]], workers: int, *, gpus: int, own: bool) -> Share:
    """What each of so many workers has of these nodes, by their resources: as many cores as all can have at once."""
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    if own:
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        cores = count_cores() // workers
        return Share(1, gpus, max(1, min(cores, int(wanted)) if wanted.isdigit() else cores))
    fit = [k for k in range(1, max(cpus, default=1) + 1) if sum(n // k for n in cpus) >= workers]
    most = max(fit, default=1)
    return Share(1 if gpus else most, gpus, most)


def _remove(folder: Path) -> None:
    """Remove a folder in which processes that are about to end may still write."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


@contextmanager
def _listen_here() -> Iterator[None]:
    """Have Ray call the node by the address on which nobody else reaches it; on Linux it takes another one, unasked."""
    from ray._private import ray_constants

    there = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = there


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep Ray from writing on the screen, and from taking a signal that is ours."""
    log, main = logging.getLogger("ray"), threading.current_thread() is threading.main_thread()
    level, handler = log.level, signal.getsignal(signal.SIGTERM)
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
        if main and handler is not None:
            signal.signal(signal.SIGTERM, handler)
