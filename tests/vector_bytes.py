"""Vector files of other tools, byte by byte as these lay them out; nothing here imports the code that reads them."""

import csv
import io
import json
import pickle
import struct
import zipfile

import numpy as np

F32 = np.dtype("<f4")


def make_rows(n, width=4, seed=0):
    """Directions that float32 holds exactly."""
    return np.random.default_rng(seed).integers(-64, 64, size=(n, width)) / 16.0


def gguf(tensors, *, architecture="controlvector", keys=(), version=3, alignment=None, dtype="<f4", kind=0):
    """A GGUF file: magic, version, counts, keys, tensors' names and places, then their numbers, each aligned."""

    def text(words):
        data = words.encode()
        return struct.pack("<Q", len(data)) + data

    told = [
        text("general.architecture") + struct.pack("<I", 8) + text(architecture),
        text(f"{architecture}.model_hint") + struct.pack("<I", 8) + text("llama"),
        text(f"{architecture}.layer_count") + struct.pack("<I", 4) + struct.pack("<I", len(tensors)),
        *(text(name) + struct.pack("<I", 8) + text(value) for name, value in keys),
    ]
    if alignment:
        told.append(text("general.alignment") + struct.pack("<I", 4) + struct.pack("<I", alignment))
    step = alignment or 32
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(told)) + b"".join(told)
    body = b""
    for name, values in tensors.items():
        shape = np.shape(values)[::-1]
        head += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", kind, len(body))
        body += np.asarray(values, dtype).tobytes()
        body += bytes(-len(body) % step)
    return head + bytes(-len(head) % step) + body


def torch_file(value, *, name="archive"):
    """A file as ``torch.save`` writes it: a zip of a pickle, its opcodes written here, and of each tensor's numbers."""
    stored = []
    body = _pickle(value, stored)
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(f"{name}/data.pkl", b"\x80\x02" + body + b".")
            archive.writestr(f"{name}/byteorder", b"little")
            for number, values in enumerate(stored):
                archive.writestr(f"{name}/data/{number}", values.tobytes())
            archive.writestr(f"{name}/version", b"3\n")
        return file.getvalue()


def _pickle(value, stored):
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(_pickle(item, stored) for item in value) + b"t"
    if isinstance(value, list):
        return b"]" + b"(" + b"".join(_pickle(item, stored) for item in value) + b"e"
    if isinstance(value, dict):
        pairs = b"".join(_pickle(key, stored) + _pickle(item, stored) for key, item in value.items())
        return b"}" + b"(" + pairs + b"u"
    if isinstance(value, Instance):
        made = f"c{value.module}\n{value.name}\n".encode() + b")\x81"
        return made + _pickle(value.fields, stored) + b"b"
    values = np.ascontiguousarray(value, F32)
    stored.append(values)
    steps = tuple(int(np.prod(values.shape[i + 1 :])) for i in range(values.ndim))
    storage = b"(" + _pickle("storage", []) + b"ctorch\nFloatStorage\n"
    storage += _pickle(str(len(stored) - 1), []) + _pickle("cpu", []) + _pickle(values.size, []) + b"tQ"
    arguments = b"(" + storage + _pickle(0, []) + _pickle(values.shape, []) + _pickle(steps, []) + b"\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"ccollections\nOrderedDict\n)Rt" + b"R"


class Instance:
    """An object of a class that may not be installed, by its names and fields."""

    def __init__(self, module, name, **fields):
        self.module, self.name, self.fields = module, name, fields


def safetensors(tensors, metadata=None, *, dtype="F32"):
    """A safetensors file: the length of a JSON header, the header, the numbers."""
    header, body = {}, b""
    if metadata:
        header["__metadata__"] = metadata
    for name, values in tensors.items():
        array = np.asarray(values, "<f4")
        data = (array.view("<u4") >> 16).astype("<u2").tobytes() if dtype == "BF16" else array.tobytes()
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def npz(arrays, *, fortran=False, compress=False, dtype="<f4"):
    """An .npz file: a zip of .npy files, each with a header that is a Python literal."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
            for name, values in arrays.items():
                array = np.asarray(values, dtype)
                told = f"{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {array.shape}, }}"
                told += " " * (-(10 + len(told) + 1) % 64) + "\n"
                head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(told)) + told.encode()
                archive.writestr(f"{name}.npy", head + array.tobytes(order="F" if fortran else "C"))
        return file.getvalue()


def table(*rows):
    """A CSV file of lm-eval."""
    names = "loader,action,sparse_model,hookpoint,feature_index,steering_coefficient,head_index,sae_id,description"
    with io.StringIO() as file:
        writer = csv.DictWriter(file, names.split(","))
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue().encode()


def bomb(mark):
    """A file of torch that would make a file when it is unpickled."""

    class Bomb:
        def __reduce__(self):
            return (open, (str(mark), "w"))

    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Bomb(), protocol=2))
            archive.writestr("archive/version", b"3\n")
        return file.getvalue()
