"""A model server on this machine, by nnsight's wire protocol: ``python tests/ndif.py DTYPE FOLDER`` prints its address.

It is a process of its own, in which neither this package nor jaxtyping can be imported, as none is on a server. What a
request runs is kept apart from the model as in a sandbox: its blocks see a network without weights, and what they read
or assign crosses as bytes, so a copy that is edited in place changes nothing. It can be told to misbehave, by ``POST
/test`` with JSON: ``drop`` results while they are sent, ``fail`` requests with a status, be ``slow``, ``crash`` jobs.
"""

import base64
import contextlib
import hashlib
import io
import json
import linecache
import struct
import sys
import threading
import time
import traceback
import uuid
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.abc import MetaPathFinder

ABSENT = ("completions_lp", "jaxtyping", "beartype", "pyarrow", "pydantic_core_absent")


class _Absent(MetaPathFinder):
    """What no server has; under a name of its own, a version of the package that a request brings may be imported."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


sys.meta_path.insert(0, _Absent())

import nnsight.modeling.huggingface  # noqa: E402
import torch  # noqa: E402
import zstandard  # noqa: E402
from nnsight import TransformersModel  # noqa: E402
from nnsight.intervention.interleaver import EarlyStopException, Mediator, Pending  # noqa: E402
from nnsight.schema.request import RequestModel  # noqa: E402
from nnsight.schema.response import ResponseModel, Status  # noqa: E402
from nnsight.tracing.globals import BLOCKS, SOURCES  # noqa: E402
from nnsight.tracing.tracer import _saves, dec, inc  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402


def copy(value):
    """A value as it is once it has crossed between two processes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


class Proxy(Mediator):
    """The model's side of a block that runs elsewhere: what it is given and what it gives back are copies."""

    def __init__(self, twin):
        super().__init__(None, {}, {})
        self.twin = twin
        self.batch_group = twin.batch_group

    @property
    def alive(self):
        return self.pending is not None

    def start(self, interleaver=None):
        self.interleaver, self.iteration = interleaver, 0
        self.counts_at_start = dict(interleaver.counts)
        self.worker = self
        self.pending = self._adopt(self.twin.pending)

    def switch(self, *values):
        return self._adopt(self.twin.switch(*copy(values)))

    def _adopt(self, pending):
        """A request of the block, for the visit that the model's own counter is at."""
        if pending is None:
            return None
        occurrence = self.iteration if self.iteration is not None else self.occurrence(pending.provider)
        return Pending(pending.event, pending.provider, occurrence, copy(pending.value))


def sandbox(shadows):
    """Let passes that blocks ask for through a shadow, which has no weights, be made by its model."""

    def interleave(network, fn, *args, batcher=None, **kwargs):
        # Blocks have a wrapper of their own around the shadow's parts.
        model = next(model for shadow, model in shadows if shadow._module is network._module)
        interleaver = network.interleaver
        given, named = batcher.assemble(fn)
        try:
            with interleaver:
                proxies = [Proxy(mediator) for mediator in interleaver.mediators]
                model.interleaver.mediators = proxies
                try:
                    with model.interleaver:
                        result = model._module(*copy(given), **copy({**named, **kwargs}))
                        model.interleaver.handle("result", result)
                    model.interleaver.check_dangling_mediators()
                finally:
                    model.interleaver.mediators = []
                    model.interleaver.cancel()
        except EarlyStopException:
            pass
        finally:
            interleaver.cancel()

    def call(real):
        """A part of the network, run on what a block gives it."""

        def run(*args, **kwargs):
            return copy(real(*copy(args), **copy(kwargs)))

        return run

    TransformersModel.interleave = interleave
    for shadow, model in shadows:
        for envoy in shadow.modules():
            if envoy is not shadow and not list(envoy._module.children()):
                envoy._module.forward = call(model.get(envoy.path.removeprefix(f"{shadow.path}."))._module)


class Server:
    """Deployed models by key, the connections that wait for news, and what a test wants to go wrong."""

    def __init__(self, folders, dtype, *, sandboxed=True):
        self.models, self.shadows = {}, {}
        for folder in folders:
            nnsight.modeling.huggingface._ID_CACHE[folder] = folder
            options = {"task": "text-generation", "tokenizer": AutoTokenizer.from_pretrained(folder)}
            model = TransformersModel(folder, dispatch=True, dtype=dtype, **options)
            key = model.to_model_key()
            self.models[key] = self.shadows[key] = model
            if sandboxed:
                self.shadows[key] = TransformersModel(folder, **options)
        if sandboxed:
            sandbox([(self.shadows[key], model) for key, model in self.models.items()])
        self.sockets, self.log, self.wanted, self.lock = {}, [], {}, threading.Lock()
        handler = type("Handler", (Handler,), {"outer": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def take(self, what):
        """Whether something is to go wrong now; it does so as often as it was asked for."""
        left = self.wanted.get(what, 0)
        if isinstance(left, int) and left > 0:
            self.wanted[what] = left - 1
            return True
        return isinstance(left, str) and bool(self.wanted.pop(what, ""))

    def respond(self, request, number, status, text="", data=None):
        response = ResponseModel(id=number, status=status, description=text, data=data)
        socket = self.sockets.get(request.session_id)
        try:
            if isinstance(data, bytes):
                socket.frame(response.pickle(), 2, cut=self.take("drop"))
            else:
                socket.frame(response.model_dump_json().encode(), 1)
        except (OSError, ValueError):
            pass  # the client is gone

    def run(self, number, request, blob):
        with self.lock:
            before = dict(linecache.cache), dict(BLOCKS), dict(SOURCES), set(sys.modules)
            try:
                if self.wanted.get("slow"):
                    for place in (3, 2, 1):
                        self.respond(request, number, Status.QUEUED, f"place {place} in the queue")
                        time.sleep(self.wanted["slow"] / 3)
                self.respond(request, number, Status.RUNNING, "running")
                if "crash" in self.wanted:
                    raise RuntimeError(self.wanted.pop("crash"))
                out = self.execute(request, blob)
                self.log[-1]["result"] = len(out)
                self.respond(request, number, Status.COMPLETED, data=out)
            except BaseException:
                self.respond(request, number, Status.ERROR, traceback.format_exc())
            finally:
                self.log[-1]["left"] = sorted(set(sys.modules) - before[3])
                for kept, now in zip(before, (linecache.cache, BLOCKS, SOURCES), strict=False):
                    now.clear()
                    now.update(kept)

    def execute(self, request, blob):
        """Run a request's block and return its saved values, as bytes."""
        if request.model_key not in self.models:
            raise KeyError(f"model {request.model_key} is not deployed")
        shadow = self.shadows[request.model_key]
        shadow._remoteable_set_env(request.env)
        tracer = RequestModel.deserialize(blob, shadow._remoteable_persistent_objects(), compress=request.compress)
        inc()
        try:
            tracer.execute(tracer.info.code)
            ids = _saves()
            saved = {name: value for name, value in tracer.info.frame.f_locals.items() if id(value) in ids}
        finally:
            dec()
        buffer = io.BytesIO()
        torch.save(saved, buffer)
        out = buffer.getvalue()
        return zstandard.ZstdCompressor().compress(out) if request.compress else out


class Handler(BaseHTTPRequestHandler):
    """``POST /request``, ``/subscribe`` as a websocket, and ``/test`` for what a test wants and wants to know."""

    protocol_version = "HTTP/1.1"
    outer = None

    def log_message(self, *_):
        pass

    def answer(self, body, code=200):
        body = json.dumps(body).encode() if not isinstance(body, bytes) else body
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/test":
            self.answer(self.outer.log)
        elif self.path == "/subscribe":
            self.subscribe()
        else:
            self.answer({}, 404)

    def subscribe(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accepted = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()  # noqa: S324  RFC 6455
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accepted}\r\n\r\n".encode()
        )
        session = uuid.uuid4().hex
        self.outer.sockets[session] = self
        self.frame(json.dumps({"session_id": session}).encode(), 1)
        with contextlib.suppress(OSError):
            self.rfile.read(2)  # until the client closes
        self.close_connection = True

    def frame(self, payload, kind, *, cut=False):
        """A message; ``cut``: half of it, and the line goes dead."""
        n = len(payload)
        size = (
            bytes([n]) if n < 126 else b"\x7e" + struct.pack(">H", n) if n < 65536 else b"\x7f" + struct.pack(">Q", n)
        )
        self.wfile.write(bytes([0x80 | kind]) + size + (payload[: n // 2] if cut else payload))
        self.wfile.flush()
        if cut:
            self.connection.shutdown(2)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/test":
            self.outer.wanted, self.outer.log[:] = json.loads(body), []
            return self.answer({})
        if "refuse" in self.outer.wanted:
            code, detail = self.outer.wanted.pop("refuse")
            return self.answer({"detail": detail}, code)
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        message = BytesParser(policy=HTTP).parsebytes(head + body)
        parts = {
            p.get_param("name", header="content-disposition"): p.get_payload(decode=True) for p in message.iter_parts()
        }
        request, number = RequestModel.model_validate_json(parts["data"]), uuid.uuid4().hex
        self.outer.log.append({"key": self.headers.get("ndif-api-key"), "payload": len(parts["blob"])})
        job = threading.Thread(target=self.outer.run, args=(number, request, parts["blob"]), daemon=True)
        self.answer(ResponseModel(id=number, status=Status.RECEIVED, description="received").model_dump_json().encode())
        job.start()
        return None


def main():
    torch.set_num_threads(1)
    dtype, *folders = [word for word in sys.argv[1:] if word != "--trusted"]
    server = Server(folders, getattr(torch, dtype), sandboxed="--trusted" not in sys.argv)
    print(server.url, flush=True)  # noqa: T201
    server.server.serve_forever()


if __name__ == "__main__":
    main()
