"""Which reader a file is for, and the vector that it makes of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from completions_lp.records import InputError, SteeringVector
from completions_lp.steer.formats import (
    activations,
    axbench,
    bare,
    gguf,
    lite,
    lm_eval,
    persona,
    refusal,
    sae,
    svec,
)
from completions_lp.steer.formats.pickled import describe
from completions_lp.steer.formats.source import PICKLED, Asked, Found, Source, choose

OWN = "own"
"""Our own format, which is read elsewhere."""


@dataclass(frozen=True)
class Reader:
    """A format: which files are of it, and what they have."""

    claims: Callable[[Source], bool]
    read: Callable[[Source, Asked], Found]


READERS: Mapping[str, Reader] = {
    **{
        module.NAME: Reader(module.claims, module.read)
        for module in (gguf, bare, persona, activations, lm_eval, refusal, lite, svec, axbench)
    },
    **{name: Reader(partial(sae.claim, name=name), sae.read) for name in sae.SUITES},
}
"""By the names that ``format`` knows."""
USES = {"convention": (gguf.NAME,), "feature": (axbench.NAME, *sae.SUITES), "position": (refusal.NAME,)}
"""What a person may have to say of a file, by the formats that need it."""
BESIDE = (
    refusal.METADATA,
    "config.json",
    "cfg.json",
    "hyperparams.json",
)
"""Files beside a vector's, which readers look into."""


def name_format(source: Source, asked: Asked) -> str:
    """The format that is asked for, or the only one that a file can be of; ``own`` where it is none of the others.

    Raises:
        InputError: The format is not known, or the file can be of several, or of none.
    """
    if asked.format != "auto":
        if asked.format != OWN and asked.format not in READERS:
            raise InputError(f"format {asked.format!r} is not known; known are {', '.join((OWN, *READERS))}")
        return asked.format
    if not source.is_folder and not source.place.is_file():
        return OWN  # whose reader says what is wrong with it
    found = [name for name, reader in READERS.items() if reader.claims(source)]
    if len(found) > 1:
        raise source.error(f"can be of the formats {' and '.join(found)}: say which with format, or --format")
    if found:
        return found[0]
    if source.suffix == ".safetensors":
        return OWN
    if source.suffix in PICKLED:
        raise source.error(
            f"has {describe(source.pickled)}, which can be of several formats: say which with format, or --format "
            f"(persona_vectors for [n_layers + 1, d_model], axbench for a row per concept; {', '.join(READERS)})"
        )
    what = "a folder" if source.is_folder else f"a file {source.suffix or 'without an ending'}"
    raise source.error(f"is {what} of no known format; known are {', '.join((OWN, *READERS))}")


def check_asked(source: Source, asked: Asked, name: str) -> None:
    """Raise InputError for what is said of a file that its format has no use for."""
    for what, formats in USES.items():
        if getattr(asked, what) not in ("", None) and name not in formats:
            raise source.error(f"is of format {name}, and {what} is of {', '.join(formats)} alone: leave it out")


def read_foreign(source: Source, asked: Asked, name: str) -> SteeringVector:
    """The vector of a file of another tool, by the name of its format.

    Raises:
        InputError: The file is missing, damaged or of another format, lacks a layer that is asked for, or does not say
            what it has to and nobody has.
    """
    found = READERS[name].read(source, replace(asked, format=name))
    directions = choose(source, found.directions, asked)
    for layer, direction in directions.items():
        if not direction.any():
            raise source.error(f"is zero at layer {layer}, where it steers nothing; leave that layer out")
    provenance = {
        "source": source.path.name,
        "source_format": name,
        "read_as": found.read_as,
        "site": "resid_post",
        "layer_index": "0-based block whose output is added to",
        **{key: value for key, value in found.provenance.items() if value != ""},
    }
    return SteeringVector(found.name or source.path.stem or "vector", "target", directions, {}, provenance)


def list_parts(path: Path) -> list[Path]:
    """The files that a vector is read from: the file and what its reader looks into beside it, or those of a folder."""
    source = Source(path)
    if source.is_folder:
        return list(source.files)
    alone = source.suffix in (".gguf", ".svec") or (source.suffix == ".safetensors" and path.name not in sae.FILES)
    beside = [] if alone else [source.find(name) for name in (*BESIDE, *axbench.PLACES)]
    return [source.place, *dict.fromkeys(file for file in beside if file is not None and file != source.place)]
