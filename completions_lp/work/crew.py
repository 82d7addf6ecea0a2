"""Workers on a cluster, who do units side by side: largest first, each as soon as it is free.

Units go out one at a time, so a worker that is lost takes one unit with it, which goes out again; another worker takes
its place as soon as the cluster has room. Only this process writes: results come back as tables.
"""

import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from completions_lp.model import Usage
from completions_lp.records import InputError
from completions_lp.records.base import Notice
from completions_lp.work.cluster import Cluster
from completions_lp.work.hands import Hands, SomePiece
from completions_lp.work.machine import list_versions
from completions_lp.work.progress import Progress
from completions_lp.work.tasks import Done
from completions_lp.work.worker import Answer, Recipe

MOST_LOSSES = 3
"""Workers that a unit may take with it, and beginnings in a row that may fail."""
PATIENCE = 60.0
"""Seconds without any worker after which it is told that the run waits for the cluster."""
_SAME = ("weights", "config", "tokenizer", "dtype", "residual")
_VERSIONS = ("completions-lp", "torch", "transformers", "nnsight")


@dataclass(eq=False)
class Member:
    """A worker as it is seen from here."""

    number: int
    actor: Any
    opened: set[str] = field(default_factory=set)
    """Keys of the models that it has."""
    node: str = ""
    doing: str = "starting"
    since: float = field(default_factory=time.time)

    def begin(self, doing: str) -> None:
        """Enter what it does now."""
        self.doing, self.since = doing, time.time()


class Crew:
    """The workers of a run; they begin when there is work, and no more than there is work for."""

    def __init__(self, cluster: Cluster, progress: Progress, tell: Callable[[str], None]) -> None:
        self._cluster, self._progress, self._tell = cluster, progress, tell
        self.workers = cluster.workers
        self.usage = Usage()
        """What went through all networks so far."""
        self.known: dict[str, Mapping[str, Any]] = {}
        """By key, what the model of a recipe is, once a worker has opened it or a run has recorded it."""
        self._members: list[Member] = []
        self._waiting: dict[Any, tuple[Member, str]] = {}
        """By reference, workers that open a model, and its key."""
        self._failures: list[str] = []
        self._shared: dict[int, tuple[Any, Any]] = {}
        self._told: set[str] = set()

    def close(self) -> None:
        """End all workers."""
        self._members, self._waiting, self._shared = [], {}, {}
        self._cluster.close()

    def describe(self, recipe: Recipe) -> Mapping[str, Any]:
        """What ``Model.describe`` says of a recipe's model: a worker opens it."""
        if recipe.key not in self.known:
            self._call(recipe, _be_there, ())
        return self.known[recipe.key]

    def call(self, recipe: Recipe, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """What a function gives of the model, on one worker."""
        return self._call(recipe, function, arguments)

    def _call(self, recipe: Recipe, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        job = Job(recipe, lambda member: member.actor.call.remote(recipe.key, function, arguments), "at work")
        ((_, result),) = self._run([job])
        return result

    def do(self, pieces: Sequence[SomePiece], title: str) -> Iterator[tuple[SomePiece, Done | InputError]]:
        """Do units, largest first."""
        if not pieces:
            return
        jobs = [Job(piece.hands.recipe, self._hand_out(piece), piece) for piece in pieces]
        jobs.sort(key=lambda job: -job.about.work)
        with self._progress.begin(title, len(jobs), "unit", work=float(sum(job.about.work for job in jobs))) as step:
            for job, result in self._run(jobs):
                spent = getattr(result, "spent", {})
                step(1, tokens=int(spent.get("tokens", 0)), work=job.about.work)
                yield job.about, result
        self._shared.clear()

    def _hand_out(self, piece: Any) -> Callable[[Member], Any]:
        def submit(member: Member) -> Any:
            task = piece.make()
            return member.actor.do.remote(piece.hands.recipe.key, replace(task, vectors=()), self._share(task.vectors))

        return submit

    def _share(self, vectors: Any) -> Any:
        """A reference to vectors, which go to a node once for all units that add them."""
        import ray

        if id(vectors) not in self._shared:  # which are held here, so that no other ones can have their number
            self._shared[id(vectors)] = (vectors, ray.put(vectors))
        return self._shared[id(vectors)][1]

    def _run(self, jobs: "Sequence[Job]") -> "Iterator[tuple[Job, Any]]":
        """Have jobs done, and give each with its result; the next one goes out before a result is looked at."""
        import ray

        self._cluster.start()
        shift, last = Shift(deque(jobs)), time.monotonic()
        while shift.queue or shift.running:
            self._grow(len(shift.queue) + len(shift.running))
            self._occupy(shift)
            found, _ = ray.wait([*shift.running, *self._waiting], num_returns=1, timeout=1.0)
            self._progress.show(self._tell_members())
            if shift.running or found:
                last = time.monotonic()
            elif time.monotonic() - last > PATIENCE:
                self._say("no worker could begin yet: the cluster has no room for one (`ray status` tells); waiting")
            for ref in [ref for ref in found if ref in self._waiting]:
                self._enter(ref)
            done = [one for ref in found if ref in shift.running for one in self._take(ref, shift)]
            self._occupy(shift)
            yield from done

    def _occupy(self, shift: "Shift") -> None:
        """Give everybody who is free the next job."""
        busy = {member.number for member, _ in [*shift.running.values(), *self._waiting.values()]}
        for member in [one for one in self._members if one.number not in busy]:
            if shift.queue:
                self._hand(member, shift)

    def _take(self, ref: Any, shift: "Shift") -> "Iterator[tuple[Job, Any]]":
        """A job with its result; where the worker is lost, the job goes out again, and nothing is given."""
        member, job = shift.running.pop(ref)
        answer = self._fetch(ref, member)
        if answer is not None:
            member.begin("idle")
            yield job, self._open_answer(answer)
            return
        shift.losses[id(job)] += 1
        if shift.losses[id(job)] >= MOST_LOSSES:
            raise InputError(
                f"a unit of work has ended {MOST_LOSSES} workers, one after the other ({self._failures[-1]}): if their "
                "memory ran out, use fewer workers on a machine, or a smaller [run] memory_budget"
            )
        shift.queue.appendleft(job)

    def _hand(self, member: Member, shift: "Shift") -> None:
        """Give a worker the next job, or have it open the model that this needs."""
        recipe = shift.queue[0].recipe
        if recipe.key not in member.opened:
            known = self.known.get(recipe.key)
            settled = recipe if known is None else recipe.settle(known)
            member.begin("opening the model")
            self._waiting[member.actor.open.remote(recipe.key, settled)] = member, recipe.key
            return
        job = shift.queue.popleft()
        member.begin(job.name)
        shift.running[job.submit(member)] = member, job

    def _grow(self, needed: int) -> None:
        while len(self._members) < min(self.workers, needed):
            taken = {member.number for member in self._members}
            number = next(k for k in range(1, self.workers + 1) if k not in taken)
            self._members.append(Member(number, self._cluster.spawn()))

    def _enter(self, ref: Any) -> None:
        """A worker has opened a model, or not."""
        member, key = self._waiting.pop(ref)
        answer = self._fetch(ref, member)
        if answer is None:
            if len(self._failures) >= MOST_LOSSES and not any(one.opened for one in self._members):
                raise InputError(
                    f"no worker can begin: {self._failures[-1]}; each node needs completions-lp of this version, with "
                    "what it stands on, and memory for the model"
                )
            return
        if answer.error is not None and self._cluster.address:
            raise InputError(
                f"the worker on node {answer.node}: {answer.error}; each node needs the model at the same place"
            )
        found, member.node = self._open_answer(answer), answer.node
        self._compare(key, f"the worker on node {answer.node}", found)
        member.opened.add(key)
        member.begin("idle")
        self._failures.clear()

    def _compare(self, key: str, where: str, found: Mapping[str, Any]) -> None:
        """Raise InputError where a worker has another model or other libraries than this process or the others."""
        own = list_versions()
        for name in _VERSIONS:
            if found["versions"][name] != own[name]:
                raise InputError(
                    f"{where} has {name} {found['versions'][name]}, and here it is {own[name]}: install the same "
                    "versions on every node"
                )
        known = self.known.setdefault(key, found["model"])
        for name in _SAME:
            if known[name] != found["model"][name]:
                raise InputError(
                    f"{where} has another model under the name {found['model']['name']}: its {name} is "
                    f"{str(found['model'][name])[:12]}, elsewhere {str(known[name])[:12]}; copy the same files to "
                    "every node"
                )

    def _fetch(self, ref: Any, member: Member) -> Answer | None:
        """What a worker has answered; None if it is lost, and then it is gone."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            answer: Answer = ray.get(ref)
        except RayTaskError:
            raise
        except RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            self._failures.append(f"{type(error).__name__}: {lines[-1] if lines else 'no reason was given'}")
            self._members.remove(member)
            self._cluster.dismiss(member.actor)
            where = f" on {member.node}" if member.node else ""
            self._tell(f"worker {member.number}{where} is lost ({type(error).__name__}); its unit goes to another one")
            return None
        return answer

    def _open_answer(self, answer: Answer) -> Any:
        for text in answer.notices:
            if text not in self._told:
                self._told.add(text)
                warnings.warn(text, Notice, stacklevel=2)
        if answer.error is not None:
            raise answer.error
        self.usage.enter(answer.usage)
        return answer.result

    def _tell_members(self) -> list[dict[str, Any]]:
        return [
            {"number": one.number, "node": one.node, "doing": one.doing, "since": one.since} for one in self._members
        ]

    def _say(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)


@dataclass(frozen=True, eq=False)
class Job:
    """Something for one worker."""

    recipe: Recipe
    submit: Callable[[Member], Any]
    about: Any
    """The piece, or what is done in words."""

    @property
    def name(self) -> str:
        """What is done, in words."""
        return self.about if isinstance(self.about, str) else self.about.name


@dataclass(eq=False)
class Shift:
    """Jobs that are done side by side."""

    queue: deque[Job]
    """Not yet given to anybody, in their order."""
    running: dict[Any, tuple[Member, Job]] = field(default_factory=dict)
    """By reference, who does which."""
    losses: Counter[int] = field(default_factory=Counter)
    """By job, the workers that it took with it."""


class CrewHands(Hands):
    """A crew, for one model."""

    many = True

    def __init__(self, crew: Crew, recipe: Recipe) -> None:
        self.crew, self.recipe = crew, recipe

    def do(self, pieces: Sequence[SomePiece], title: str = "") -> Iterator[tuple[SomePiece, Done | InputError]]:
        """Do units, of this model or of others that the crew has."""
        return self.crew.do(pieces, title)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives of the model."""
        return self.crew.call(self.recipe, function, arguments)

    def describe(self) -> Mapping[str, Any]:
        """What the model is."""
        return self.crew.describe(self.recipe)


def _be_there(_: Any) -> None:
    return None
