"""Runs that are killed, or whose disk fails, at a chosen moment: a process that has imported everything forks them.

As a script it is that process; tests talk to it through ``Forks``. What a run does to the disk is counted, event by
event, in order: the same run has the same events, so that each of them can be the moment.
"""

import contextlib
import errno
import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

WORDS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EROFS": errno.EROFS}


class Forks:
    """The process that forks runs; it starts in seconds, each run after that in none."""

    def __init__(self, folder):
        self.folder, self.started = Path(folder), 0
        paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=folder
        )

    def start(self, *arguments, unit=None, whole=False, places=(), **fault):
        """Start ``completions-lp ARGUMENTS``, with a size of units if given, and with a fault (see ``_Fault``).

        With ``whole`` its end is that of any interpreter, which waits for all threads. Reads are counted in
        ``places``.
        """
        self.started += 1
        place = self.folder / f"child-{self.started}"
        place.mkdir()
        place = str(place)
        asked = {"arguments": list(map(str, arguments)), "places": list(map(str, places))}
        command = {**asked, "unit": unit, "whole": whole, "fault": fault, "place": place}
        return Child(self, self._ask(command)["pid"], Path(place))

    def run(self, *arguments, timeout=60, **options):
        """Start and wait for the end."""
        return self.start(*arguments, **options).wait(timeout)

    def _ask(self, command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        """End it."""
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()


@dataclass
class Child:
    """A run that was started."""

    forks: Forks
    pid: int
    place: Path
    code: int | None = None

    def signal(self, number):
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, timeout=60):
        """Wait for its end; ``code`` is as the shell has it, 137 after a SIGKILL."""
        end = time.monotonic() + timeout
        while self.code is None:
            self.code = self.forks._ask({"wait": self.pid, "place": str(self.place)})["code"]
            if self.code is None and time.monotonic() > end:
                self.signal(signal.SIGKILL)
                raise TimeoutError(f"{timeout} s and no end: {self.err[-2000:]}")
            time.sleep(0.002)
        self.code = 128 - self.code if self.code < 0 else self.code
        return self

    def wait_for(self, name, timeout=30):
        """Wait for a file that the fault leaves, such as ``paused``."""
        end = time.monotonic() + timeout
        while not (self.place / name).exists():
            if time.monotonic() > end:
                raise TimeoutError(name)
            time.sleep(0.002)

    @property
    def out(self):
        """What it wrote on stdout."""
        return (self.place / "out").read_text()

    @property
    def err(self):
        """What it wrote on stderr."""
        return (self.place / "err").read_text()

    @property
    def events(self):
        """What it did to the disk, in order: names of events."""
        return (self.place / "events").read_text().split()


class _Fault:
    """What happens at the events of a run.

    ``at``: the number of the event, from 1 on; ``lasting``: also at all later ones. ``of``: count only these events;
    layers, loads and reads are counted only there. ``do``: ``kill`` (SIGKILL; in the middle of a write, before or
    ``late`` after any other event), ``error`` (an OSError of ``word``, and nothing done), ``torn`` (the same after half
    of the bytes), ``signal`` (``number``, to itself), ``pause`` (until a file ``go`` is there).
    """

    def __init__(self, place, *, at=0, do="", of=(), word="EIO", number=0, late=False, lasting=False):
        self.place, self.at, self.do, self.of, self.number = Path(place), at, do, tuple(of), number
        self.word, self.late, self.lasting = WORDS[word], late, lasting
        self.seen, self.log = 0, os.open(f"{place}/events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def meet(self, name, act, *, half=None):
        """An event: what it does, and for a write what does half of it."""
        if self.of and name not in self.of:
            return act()
        self.seen += 1
        os.write(self.log, f"{name}\n".encode())
        if not self.at or self.seen < self.at or (self.seen > self.at and not self.lasting):
            return act()
        if self.do in ("kill", "torn") and half is not None:
            half()
        if self.do == "kill":
            if self.late and half is None:
                act()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.do in ("error", "torn"):
            raise OSError(self.word, os.strerror(self.word))
        if self.do == "signal":
            os.kill(os.getpid(), self.number)
        if self.do == "pause":
            (self.place / "paused").touch()
            while not (self.place / "go").exists():
                time.sleep(0.002)
        return act()


def install(fault, root, patch=setattr):
    """Count what is done below ``root``: bytes written, files made, moved, flushed and removed, folders made."""
    from completions_lp.store import files

    write, fsync, replace = files._Aside.write, os.fsync, os.replace

    def write_all(self, data):
        view = memoryview(data).cast("B")
        return fault.meet(
            "write", functools.partial(write, self, data), half=functools.partial(write, self, view[: len(view) // 2])
        )

    patch(files._Aside, "write", write_all)
    patch(os, "fsync", lambda number: fault.meet("fsync", lambda: fsync(number)))
    patch(os, "replace", lambda *names, **options: fault.meet("replace", lambda: replace(*names, **options)))

    def watch(owner, method, name):
        inner = getattr(owner, method)

        @functools.wraps(inner)
        def watched(path, *rest, **options):
            call = functools.partial(inner, path, *rest, **options)
            below = isinstance(path, str | Path) and str(path).startswith(str(root))
            return fault.meet(name, call) if below else call()

        patch(owner, method, watched)

    watch(os, "open", "open")  # tempfile, filelock and the flushing of folders open by it
    for method in ("mkdir", "unlink", "chmod", "rmdir"):
        watch(Path, method, method)


def watch_reads(fault, places):
    """Count, where a fault asks for them, the files that are opened to be read below some places."""
    if "read" not in fault.of:
        return
    import pyarrow.parquet

    from completions_lp.checkpoint import files

    def watch(owner, method):
        inner = getattr(owner, method)

        def watched(path, *rest, **options):
            call = functools.partial(inner, path, *rest, **options)
            return fault.meet("read", call) if str(path).startswith(tuple(places)) else call()

        setattr(owner, method, watched)

    watch(Path, "open")  # read_bytes and read_text open by it
    watch(files, "safe_open")
    for method in ("ParquetFile", "read_table", "read_schema"):
        watch(pyarrow.parquet, method)


def _serve():
    import torch

    import completions_lp.cli
    import completions_lp.job.places
    import completions_lp.job.results
    import completions_lp.job.stages
    import completions_lp.job.status
    import completions_lp.plan.validation
    import completions_lp.show.text.status
    from completions_lp.work import batches, progress

    torch.set_num_threads(1)
    progress.EVERY = float("inf")  # what is written by the clock is no event that comes again
    tried = set()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in iter(sys.stdin.readline, ""):
        command = json.loads(line)
        if "wait" in command:
            pid, status = os.waitpid(command["wait"], os.WNOHANG)
            answer = {"code": os.waitstatus_to_exitcode(status) if pid else None}
            if pid:
                _import_all(Path(command["place"]) / "modules", tried)
        else:
            answer = {"pid": os.fork()}
            if not answer["pid"]:
                for number, name in ((1, "out"), (2, "err")):
                    os.dup2(os.open(f"{command['place']}/{name}", os.O_WRONLY | os.O_CREAT), number)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                answers.close()
                signal.signal(signal.SIGINT, signal.default_int_handler)
                batches.UNIT = command["unit"] or batches.UNIT
                words = command["arguments"]
                root = words[words.index("--out") + 1] if "--out" in words else words[1]
                fault = _Fault(command["place"], **command["fault"])
                install(fault, root)
                watch_reads(fault, command["places"])
                _watch_passes(fault, torch)
                code = completions_lp.cli.main(command["arguments"])
                Path(command["place"], "modules").write_text("\n".join(sys.modules))
                if command["whole"]:
                    sys.exit(code)
                sys.stdout.flush()
                os._exit(code)  # without the seconds that it takes to take everything down
        print(json.dumps(answer), file=answers, flush=True)


def _import_all(names, tried):
    """Import what a run has imported, so that the next one has it."""
    for name in names.read_text().split() if names.is_file() else ():
        if name not in sys.modules and name not in tried:
            tried.add(name)
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _watch_passes(fault, torch):
    """Count, where a fault asks for them, the layers that the network goes through."""
    if "layer" in fault.of:
        from completions_lp.model import precision

        linear, check = torch.nn.functional.linear, precision.check_anatomy

        def count(*values):
            return fault.meet("layer", lambda: linear(*values))

        def try_out(model):  # what is tried of a model as it is loaded is no work of the run
            torch.nn.functional.linear = linear
            found = check(model)
            torch.nn.functional.linear = count
            return found

        torch.nn.functional.linear, precision.check_anatomy = count, try_out
    if "load" in fault.of:
        from completions_lp.job import network

        load = network.load_model
        network.load_model = lambda *values, **options: fault.meet("load", lambda: load(*values, **options))


if __name__ == "__main__":
    _serve()
