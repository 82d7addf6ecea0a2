"""Those who do units of work: this process, or workers elsewhere. Who does a unit changes nothing of what it holds."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from completions_lp.model import Model
from completions_lp.records import InputError, NotFinite, OutOfRoom
from completions_lp.work.tasks import Done, Task, do_task


class Piece:
    """A unit that is to be done."""

    @property
    def hands(self) -> Any:
        """Who does it."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What it is, in words."""
        raise NotImplementedError

    @property
    def work(self) -> float:
        """Floating-point operations, at most about."""
        raise NotImplementedError

    def make(self) -> Task:
        """What to do, made when somebody is free to do it."""
        raise NotImplementedError


SomePiece = TypeVar("SomePiece", bound=Piece)


class Hands:
    """Whoever has a model at hand."""

    many = False
    """Whether several units are done at once, so that all of a stage should be asked for together."""

    def do(self, pieces: Sequence[SomePiece], title: str = "") -> Iterator[tuple[SomePiece, Done | InputError]]:
        """Do units, in whatever order, and give each as it is done; or why it has no room or no number for a prompt.

        Any other error ends this.
        """
        raise NotImplementedError

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives of the model and these arguments; with many hands, both are pickled."""
        raise NotImplementedError


class Here(Hands):
    """This process, one unit after the other."""

    def __init__(self, open_model: Callable[[], Model]) -> None:
        self._open = open_model

    def do(self, pieces: Sequence[SomePiece], title: str = "") -> Iterator[tuple[SomePiece, Done | InputError]]:
        """In the order in which they are given."""
        for piece in pieces:
            yield piece, try_task(self._open(), piece.make())

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function gives of the model and these arguments."""
        return function(self._open(), *arguments)


def try_task(model: Model, task: Task) -> Done | InputError:
    """Do a unit; or say which prompt has no room or no numbers, without which the others can be done."""
    try:
        return do_task(model, task)
    except (OutOfRoom, NotFinite) as error:
        if error.prompt_id is None:
            raise
        return error
