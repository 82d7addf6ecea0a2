"""A model server, and the sessions in which it works for us: one request each, sent again where the line was at fault.

Nothing but tensors, numbers and texts goes there or comes back, and what comes back is small; both ways are counted.
The server speaks the protocol of nnsight's remote backend, which is used as it is.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import nnsight
import tenacity
import websocket
from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
from nnsight.schema.config import CONFIG

from completions_lp.model.parcel import pack
from completions_lp.model.usage import Usage
from completions_lp.records import InputError

ATTEMPTS = 6
"""How often a request is sent, at most: the waits between them add up to two minutes."""
LONGEST_WAIT = 60
_PASSING = ("preempted", "evicted", "cancelled", "restart")
"""What a server says of a request that it gave up for reasons of its own."""
_TOO_LARGE = ("out of memory", "can't allocate memory", "execution timeout")
"""What it says of one that is to be sent in smaller parts."""

_Transient = (httpx.TransportError, websocket.WebSocketException, OSError)


class _Again(Exception):  # noqa: N818  it is no error yet
    """A request that may be sent again, and why."""


class Counted(RemoteBackend):  # type: ignore[misc]
    """nnsight's own backend, which tells what state a request is in and how many bytes went which way."""

    def __init__(self, server: "Server") -> None:
        super().__init__(server.key, host=server.host, env=server.network._remoteable_get_env())
        self.server = server
        self.display.enabled = False

    def _serialize(self, tracer: Any) -> bytes:
        blob: bytes = super()._serialize(tracer)
        self.server.usage.sent += len(blob)
        return blob

    def note(self, response: Any) -> bool:
        """See ``RemoteBackend``."""
        status, more = response.status.value.lower(), _clean(response.description or "")
        told = status if status in more.lower() or not more else f"{status}: {more}"
        self.server.tell("" if status == "completed" else told[:120])
        return bool(super().note(response))

    def finalize(self, content: bytes) -> Any:
        """See ``RemoteBackend``."""
        self.server.usage.received += len(content)
        return super().finalize(content)


@dataclass(eq=False)
class Server:
    """A model as it is deployed on a server."""

    network: Any
    """The nnsight wrapper of the model without its weights, by which requests name its parts."""
    key: str
    """What the server calls it."""
    host: str
    told: Mapping[str, Any]
    """What goes with every request: which parts of the network are meant, and what was found out of it."""
    usage: Usage = field(default_factory=Usage)
    tell: Callable[[str], object] = lambda _: None
    """Gets the state of a request: what is said while one waits."""
    pause: Callable[[float], None] = time.sleep
    """Waits for so many seconds."""

    def call(self, function: str, work: Any) -> Any:
        """What ``module:function(network, told, work)`` gives where the network is.

        Raises:
            InputError: The server refuses the request, or what runs there fails; or no answer comes.
            MemoryError: It is too large for the server's memory or its patience.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Again),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_exponential(multiplier=2, max=LONGEST_WAIT),
            before_sleep=self._tell_wait,
            sleep=self.pause,
        )
        try:
            return retrying(self._send, function, work)
        except tenacity.RetryError as error:
            reason = error.last_attempt.exception()
            raise InputError(f"{self.host}: no answer after {ATTEMPTS} attempts ({reason})") from None

    def _tell_wait(self, state: tenacity.RetryCallState) -> None:
        reason = None if state.outcome is None else state.outcome.exception()
        self.tell(f"{reason}; again in {state.upcoming_sleep:.0f} s")

    def _send(self, function: str, work: Any) -> Any:
        try:
            return self._run(function, work)
        except RemoteError as error:
            raise self._judge(error) from None
        except websocket.WebSocketBadStatusException as error:
            if error.status_code < 500:
                raise InputError(f"{self.host}: refuses us ({_shorten(error)}); is NDIF_API_KEY right?") from None
            raise _Again(_shorten(error)) from None
        except _Transient as error:
            raise _Again(_shorten(error)) from None

    def _run(self, function: str, work: Any) -> Any:
        parcel = pack(function)
        landing, texts, name = parcel.landing, dict(parcel.texts), parcel.function
        network, told = self.network, dict(self.told)
        with network.session(backend=Counted(self)):
            place: dict[str, Any] = {}
            exec(landing, place)  # noqa: S102  our own text, on the server
            found = nnsight.save({"found": place["call"](texts, name, network, told, work)})
        return found["found"]

    def _judge(self, error: RemoteError) -> Exception:
        """What an error of the server means for us."""
        text, cause = str(error), error.__cause__
        if isinstance(cause, httpx.HTTPStatusError) and cause.response.status_code not in (429, *range(500, 600)):
            return InputError(
                f"{self.host}: refuses the request ({_shorten(error)}); nnsight here is {nnsight.__version__}"
            )
        if isinstance(cause, httpx.HTTPError) or any(word in text.lower() for word in _PASSING):
            return _Again(_shorten(error))
        if any(word in text.lower() for word in _TOO_LARGE):
            return MemoryError(_shorten(error))
        return InputError(f"{self.host}: the request failed there ({_shorten(error)})")


def find_host(remote: bool | str) -> str:
    """The address that is asked for: a URL, or where nnsight is told to go (``NDIF_HOST``).

    Raises:
        InputError: It is no http address.
    """
    host = str(remote if isinstance(remote, str) else os.environ.get("NDIF_HOST") or CONFIG.API.HOST).rstrip("/")
    if not host.startswith(("http://", "https://")):
        raise InputError(f"[model] remote is {host!r}; it must be true, or an address such as http://localhost:5001")
    return host


def _shorten(error: BaseException) -> str:
    """The last line of what was said, on which a traceback has its error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return _clean(lines[-1])[:300]


def _clean(text: str) -> str:
    """A server's words on one line, without what could move a terminal's cursor."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
