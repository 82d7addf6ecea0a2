"""Where a model's files are, and what is wrong with them: found without torch, before any weights are read."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import TracebackType
from typing import Any

from safetensors import SafetensorError, safe_open

from completions_lp.checkpoint.hub import ask_hub, fetch_file
from completions_lp.records import InputError, describe_cause, is_failing

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

LARGEST_COUNT = 10**6
"""Layers, heads, experts or labels of a configuration; transformers makes lists of so many."""
LARGEST_JSON = 64 * 2**20
"""Bytes of a configuration or an index; the largest indices of real checkpoints have some 10 MB."""
READER_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, MemoryError, NameError, OSError),
    *(RecursionError, RuntimeError, SafetensorError, TypeError, ValueError),
)
"""What transformers, huggingface_hub (besides errors of its own) and safetensors were seen to raise over files that are
not as they expect."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a model's files are: a local folder or GGUF file, or a repository of the hub at a revision."""

    name: str
    revision: str | None
    local: bool
    online: bool = True
    """Whether the hub can be asked; else what is in its cache is all that there is."""
    gguf: bool = False
    """Whether it is one GGUF file, which holds configuration and tokenizer too: what lies beside it is not its own."""

    @property
    def options(self) -> dict[str, Any]:
        """What every reader of transformers is told: a local folder never asks the hub, and no code is run."""
        return {
            "revision": self.revision,
            "local_files_only": self.local or not self.online,
            "trust_remote_code": False,
        }

    def find(self, file: str) -> Path | None:
        """The local path of a file, fetched from the hub if need be; None if the checkpoint has no such file."""
        if self.gguf:
            return None
        if self.local:
            path = Path(self.name) / file
            return path if path.exists() or path.is_symlink() else None
        with reading(self):
            return fetch_file(self.name, file, self.revision, online=self.online)

    def read_json(self, file: str) -> dict[str, Any] | None:
        """A file's JSON object; None if there is no such file."""
        path = self.find(file)
        if path is None:
            return None
        if not path.is_file():  # a pipe would be waited for
            raise self.error(f"{file} is no file")
        if path.stat().st_size > LARGEST_JSON:
            raise self.error(f"{file} has more than {LARGEST_JSON // 2**20} MiB, which no configuration needs")
        try:
            value = json.loads(path.read_bytes())
        except OSError as error:
            raise self.error(f"{file} cannot be read: {error.strerror}") from None
        except (RecursionError, ValueError) as error:
            reason = "nested too deep" if isinstance(error, RecursionError) else describe_line(error)
            raise self.error(f"{file} is not JSON: {reason}") from None
        if not isinstance(value, dict):
            raise self.error(f"{file} holds a {type(value).__name__}; it must be a JSON object")
        return value

    @property
    def commit(self) -> str | None:
        """The commit of the hub that was found; a branch or tag where its cache does not tell; None of a folder."""
        path = None if self.local else self.find("config.json")
        return path.parent.name if path is not None and path.parent.parent.name == "snapshots" else self.revision

    def error(self, message: str) -> InputError:
        """What is wrong with it, on one line."""
        return InputError(f"model {self.name!r}: {message}")


class reading:  # noqa: N801  a context manager reads as a verb
    """While foreign libraries read the files: what they raise becomes an InputError of one line."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Translate."""
        if kind is None or error is None or isinstance(error, InputError):
            return
        from huggingface_hub.errors import EntryNotFoundError, RevisionResolutionError, StrictDataclassError

        foreign = (*READER_ERRORS, EntryNotFoundError, RevisionResolutionError, StrictDataclassError)
        # tokenizers raises the bare class Exception, and Rust's panics arrive as a BaseException without a module.
        if issubclass(kind, foreign) or kind is Exception or kind.__name__ == "PanicException":
            reason = describe_line(error) or kind.__name__
            told = reason if isinstance(error, OSError | ValueError) else f"{kind.__name__}: {reason}"
            raise InputError(f"model {self.checkpoint.name!r} cannot be loaded: {told}") from None


def locate(name: str | Path, revision: str | None) -> Checkpoint:
    """Tell a local folder or GGUF file from a hub name.

    Raises:
        InputError: It is a path where there is neither, a folder together with a revision, or a name that the hub does
            not know.
    """
    try:
        path = Path(name).expanduser()
        local, file = bool(str(name)) and path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # too long, not allowed; an unknown ~user
        raise InputError(f"model {str(name)[:200]!r}: no such folder ({describe_line(error)[:200]})") from None
    gguf = path.suffix.lower() == ".gguf"
    if revision is not None and (local or (file and gguf)):
        raise InputError(
            f"revision {revision!r} is of the hub, but model {str(path)!r} is a local {'folder' if local else 'file'}, "
            "which has no revisions: leave it out, or give the model's hub name"
        )
    if file and gguf:
        return Checkpoint(str(path), None, True, gguf=True)
    if file:
        raise InputError(
            f"model {str(path)!r} is a file: give the folder that holds config.json and {WEIGHTS}, or a .gguf file"
        )
    if gguf and not local:
        raise InputError(f"model {str(name)!r}: no such file; of a hub's repository, fetch it first (`hf download`)")
    if not local and (str(name).startswith((".", "/", "~")) or str(name).count("/") > 1 or not str(name)):
        raise InputError(f"model {str(name)!r}: no such folder")
    if local:
        return Checkpoint(str(path), revision, local)
    return Checkpoint(str(name), revision, local, online=ask_hub(str(name), revision))


def check_folder(checkpoint: Checkpoint) -> list[str]:
    """Check the configuration and the files of the weights, without reading any weights; returns the files' names.

    A shard must lie in the folder itself, by its plain name. The file may be a link, as all are in the hub's cache:
    what it leads to is read as safetensors, which are numbers and nothing that could run.

    Raises:
        InputError: Code or a pickle would be needed, or files are missing, broken, elsewhere or of another model.
    """
    config = read_settings(checkpoint)
    if config is None:
        raise checkpoint.error("no config.json: this is no checkpoint of a transformers model")
    files = _list_weights(checkpoint, config)
    for file in files if checkpoint.local else ():
        count_tensors(checkpoint, file)
    return files


def read_settings(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The configuration, if there is one, checked together with the tokenizer's before foreign code reads either."""
    config = checkpoint.read_json("config.json")
    _refuse_code(checkpoint, "config.json", config or {})
    _refuse_code(checkpoint, "tokenizer_config.json", checkpoint.read_json("tokenizer_config.json") or {})
    for key, value in _walk(config):
        if key.startswith(("n_", "num_")) and isinstance(value, int | float) and not abs(value) <= LARGEST_COUNT:
            raise checkpoint.error(f"config.json says {key[:80]!r} is {str(value)[:20]}; no model has so many")
    return config


def _refuse_code(checkpoint: Checkpoint, file: str, settings: dict[str, Any]) -> None:
    """Raise InputError if a configuration, or one within it, names code: of the checkpoint, or of a hub's kernel."""
    for key, value in _walk(settings):
        if key == "auto_map" and value:
            raise checkpoint.error(
                f"{file} asks for the checkpoint's own Python code (auto_map), which is never run; if transformers has "
                f"this architecture itself, remove auto_map from a local copy's {file}"
            )
        if key.strip("_").startswith(("attn_implementation", "experts_implementation")) and "/" in str(value):
            raise checkpoint.error(f"{file} asks for the hub's code ({key}: {str(value)[:80]!r}), which is never run")


def _walk(settings: Any) -> Iterator[tuple[str, Any]]:
    """Every key and value of nested JSON."""
    rest = [settings]
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            yield from value.items()
            rest += value.values()
        elif isinstance(value, list):
            rest += value


def _list_weights(checkpoint: Checkpoint, config: dict[str, Any]) -> list[str]:
    """Names of the safetensors files, as transformers would pick them."""
    single, index = WEIGHTS, INDEX
    asked = config.get("transformers_weights")
    if asked is not None:
        single = index = _check_name(checkpoint, asked, "config.json", (".safetensors", ".safetensors.index.json"))
    if not index.endswith(".json") or (asked is None and checkpoint.find(single) is not None):
        return [single]
    listed = checkpoint.read_json(index)
    if listed is None:
        pickled = [file for file in ("pytorch_model.bin", "pytorch_model.bin.index.json") if checkpoint.find(file)]
        told = f"; {pickled[0]} is a pickle, which can run code: save the model as safetensors" if pickled else ""
        raise checkpoint.error(f"no {single} or {index}{told}")
    shards = listed.get("weight_map")
    if not isinstance(shards, dict) or not shards or not isinstance(listed.get("metadata"), dict):
        raise checkpoint.error(f"{index} must have an object 'metadata' and an object 'weight_map' that is not empty")
    return sorted({_check_name(checkpoint, shard, index, (".safetensors",)) for shard in shards.values()})


def _check_name(checkpoint: Checkpoint, file: Any, source: str, ends: tuple[str, ...]) -> str:
    """A file's name as another file tells it: in the folder itself, and safetensors."""
    if not isinstance(file, str) or not file.endswith(ends):
        raise checkpoint.error(f"{source} names {str(file)[:200]!r} as weights: only {' or '.join(ends)} is read")
    if PurePosixPath(file).name != file or PureWindowsPath(file).name != file or "\0" in file:
        raise checkpoint.error(f"{source} names {file[:200]!r}: weights must lie in the model's folder itself")
    return file


def count_tensors(checkpoint: Checkpoint, file: str) -> int:
    """How many tensors a local safetensors file holds, by its header, which the whole file must fit."""
    path = Path(checkpoint.name) / file
    if not path.is_file():
        raise checkpoint.error(f"{file} is missing: fetch the checkpoint again")
    try:
        with safe_open(path, framework="np") as shard:
            return len(shard.keys())
    except (OSError, SafetensorError) as error:
        if is_failing(error):
            raise checkpoint.error(f"{file} cannot be read: {describe_cause(error)}") from None
        raise checkpoint.error(f"{file} is damaged or no safetensors file: {describe_line(error)}") from None


def describe_line(error: object, most: int = 300) -> str:
    """The first line of a message that is not blank, cut, with what is not printable escaped."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:most]
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
