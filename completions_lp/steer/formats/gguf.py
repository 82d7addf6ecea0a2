"""Control vectors in GGUF files, whose two conventions are one layer apart.

Their bytes are read here and not by the gguf package, which comes with an extra for models: so that a vector of a few
kilobytes needs no installation, and that what a damaged file claims is refused before memory is taken for it.

repeng (and dialz after it) writes ``direction.L`` for the output of block L. llama.cpp's own generator writes that as
``direction.(L+1)``, while its loader, which reads no metadata, adds ``direction.k`` to the output of block k.
"""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from completions_lp.checkpoint.matrices import widen
from completions_lp.records import InputError, SteeringVector, read_bytes
from completions_lp.steer.formats.source import Asked, Found, Source, as_direction, name_layer

NAME = "gguf"
CONVENTIONS = {"repeng": 0, "llama.cpp": 1}
"""By convention, what is added to a block's number where its output is written down."""
MAGIC = b"GGUF"
VERSIONS = (2, 3)
ARCHITECTURES = ("controlvector", "steeringvector")
OWN = "completions_lp.convention"
"""Our own key, by which a file says how it counts."""
MOST = 10_000
"""Keys, tensors and entries of a list, at most."""
LONGEST = 2**16
"""Bytes of a text, at most."""
ALIGNMENT = 32
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST, _UINT32 = 8, 9, 4
_TENSORS = {0: "<f4", 1: "<f2", 28: "<f8", 30: "<u2"}
"""Types of tensors, F32, F16, F64 and BF16, as numpy reads their bytes."""
_F32, _BF16 = 0, 30


def claims(source: Source) -> bool:
    """Whether it is a GGUF file, by its ending."""
    return source.suffix == ".gguf"


def read(source: Source, asked: Asked) -> Found:
    """The directions of a control vector, each at the block whose output it is."""
    told, tensors = _parse(source, read_bytes(source.path))
    architecture = told.get("general.architecture")
    if architecture not in ARCHITECTURES:
        raise source.error(
            f"a GGUF file of architecture {str(architecture)[:40]!r}; a vector's is {' or '.join(ARCHITECTURES)}"
        )
    convention = _find_convention(source, asked, told, str(architecture))
    shift, directions = CONVENTIONS[convention], {}
    for name, values in tensors.items():
        kind, _, number = name.partition(".")
        if kind != "direction":
            raise source.error(f"has a tensor {name[:40]!r}; those of a vector are direction.1, direction.2, …")
        layer = name_layer(source.path, number) - shift
        if layer < 0:
            raise source.error(f"has {name}, which llama.cpp's counting from 1 does not know; is it repeng's?")
        directions[layer] = as_direction(source.path, name, values)
    if not directions:
        raise source.error("has no tensors direction.1, direction.2, …")
    counting = "L" if not shift else "(L + 1)"
    kept = {"convention": convention, "model_hint": str(told.get(f"{architecture}.model_hint", ""))[:200]}
    return Found(directions, f"convention {convention}: direction.{counting} is the output of block L", "", kept)


def _find_convention(source: Source, asked: Asked, told: Mapping[str, Any], architecture: str) -> str:
    """How the file counts: as it says itself, else as asked."""
    own = told.get(OWN) or ("repeng" if architecture == "steeringvector" else "")  # dialz, which counts as repeng does
    if own and own not in CONVENTIONS:
        raise source.error(f"says {OWN} = {str(own)[:40]!r}; known are {', '.join(CONVENTIONS)}")
    if own and asked.convention and own != asked.convention:
        raise source.error(
            f"says that it counts as {own} does, and convention is {asked.convention!r}: leave convention out"
        )
    found = own or asked.convention
    if not found:
        raise source.error(
            'does not say how it counts layers, and the two ways are one layer apart: convention = "repeng" where '
            'direction.L was read at the output of block L (repeng, EasySteer), "llama.cpp" where llama.cpp\'s own '
            "generator wrote that as direction.(L + 1); or --convention"
        )
    return str(found)


class _Reader:
    """Bytes from the beginning on, never beyond their end."""

    def __init__(self, source: Source, data: bytes) -> None:
        self.source, self.data, self.at = source, data, 0

    def number(self, code: str) -> Any:
        size = struct.calcsize(f"<{code}")
        return struct.unpack(f"<{code}", self.take(size))[0]

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise self.source.error("a GGUF file that ends too early: copy it again")
        self.at += size
        return self.data[self.at - size : self.at]

    def count(self, what: str, most: int = MOST) -> int:
        found = int(self.number("Q"))
        if found > most:
            raise self.source.error(f"a GGUF file that claims {found} {what}; a vector has at most {most}")
        return found

    def text(self) -> str:
        return self.take(self.count("bytes of a name", LONGEST)).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _TEXT:
            return self.text()
        if kind == _LIST and depth < 2:
            inner = self.number("I")
            return [self.value(inner, depth + 1) for _ in range(self.count("entries of a list"))]
        if kind not in _NUMBERS:
            raise self.source.error(f"a GGUF file with a value of unknown type {kind}")
        return self.number(_NUMBERS[kind])


def _parse(source: Source, data: bytes) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, "..."]]]:
    """Metadata and tensors of a GGUF file, by name."""
    reader = _Reader(source, data)
    if data[:4] != MAGIC:
        raise source.error("no GGUF file: it does not begin as one")
    reader.take(4)
    version = reader.number("I")
    if version not in VERSIONS:
        raise source.error(f"a GGUF file of version {version}; versions {VERSIONS[0]} and {VERSIONS[1]} are read")
    n_tensors, n_keys = reader.count("tensors"), reader.count("keys")
    told = {}
    for _ in range(n_keys):
        key = reader.text()
        told[key] = reader.value(reader.number("I"))
    listed = []
    for _ in range(n_tensors):
        name, n_axes = reader.text(), reader.number("I")
        if n_axes > 4:
            raise source.error(f"tensor {name[:40]!r} claims {n_axes} axes")
        shape = [reader.count("numbers of a tensor", len(data)) for _ in range(n_axes)][::-1]
        listed.append((name, shape, reader.number("I"), reader.number("Q")))
    alignment = told.get("general.alignment", ALIGNMENT)
    if not (type(alignment) is int and 0 < alignment <= 2**16):
        raise source.error(f"a GGUF file with general.alignment {str(alignment)[:40]!r}")
    start = -(-reader.at // alignment) * alignment
    tensors = {name: _decode(source, data, name, shape, kind, start + offset) for name, shape, kind, offset in listed}
    if len(tensors) < len(listed):
        raise source.error("has a tensor of one name twice: one direction per layer is needed")
    return told, tensors


def _decode(
    source: Source, data: bytes, name: str, shape: list[int], kind: int, start: int
) -> Float[np.ndarray, "..."]:
    if kind not in _TENSORS:
        raise source.error(f"tensor {name[:40]!r} is quantised (type {kind}); a vector is of F32, F16, BF16 or F64")
    dtype, size = np.dtype(_TENSORS[kind]), 1
    for length in shape:
        size *= length
    if start + size * dtype.itemsize > len(data):
        raise source.error(f"tensor {name[:40]!r} claims {shape} numbers, more than the file has")
    values = np.frombuffer(data, dtype, size, start)
    return widen(values, bfloat16=kind == _BF16).reshape(shape)


def pack(vector: SteeringVector, convention: str) -> bytes:
    """A GGUF file of a vector, of version 3, in either convention; it says in ``completions_lp.convention`` which.

    Raises:
        InputError: The convention is not known.
    """
    if convention not in CONVENTIONS:
        raise InputError(
            'a GGUF file counts layers in one of two ways, and convention has to say which: "repeng" writes the '
            'output of block L as direction.L, where llama.cpp adds it to that very output; "llama.cpp" as '
            "direction.(L + 1), as llama.cpp's own generator does"
        )
    shift = CONVENTIONS[convention]
    hint = str(vector.provenance.get("model_hint") or vector.provenance.get("model") or "unknown").rpartition("/")[2]
    keys = [
        ("general.architecture", _TEXT, _text("controlvector")),
        ("controlvector.model_hint", _TEXT, _text(hint)),
        ("controlvector.layer_count", _UINT32, struct.pack("<I", len(vector.directions))),
        (OWN, _TEXT, _text(convention)),
    ]
    head = MAGIC + struct.pack("<IQQ", VERSIONS[-1], len(vector.directions), len(keys))
    head += b"".join(_text(key) + struct.pack("<I", kind) + value for key, kind, value in keys)
    body = b""
    for layer, direction in vector.directions.items():
        values = direction.astype("<f4").tobytes()
        head += _text(f"direction.{layer + shift}") + struct.pack("<IQIQ", 1, len(direction), _F32, len(body))
        body += values + bytes(-len(values) % ALIGNMENT)
    return head + bytes(-len(head) % ALIGNMENT) + body


def _text(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded
