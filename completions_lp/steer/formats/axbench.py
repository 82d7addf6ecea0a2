"""AxBench: ``MODEL_weight.pt``, a row per concept, with what the rows stand for in ``generate/metadata.jsonl``."""

import json
from pathlib import Path

from completions_lp.records import read_text
from completions_lp.steer.formats.pickled import shape_of, unpack
from completions_lp.steer.formats.source import PICKLED, Asked, Found, Source, as_direction, tell_layers

NAME = "axbench"
ENDING = "_weight.pt"
PLACES = ("metadata.jsonl", "generate/metadata.jsonl", "../generate/metadata.jsonl")


def claims(source: Source) -> bool:
    """Whether it is called so, and has two axes."""
    if source.suffix not in PICKLED or not source.path.name.endswith(ENDING):
        return False
    return len(shape_of(source.pickled) or ()) == 2


def read(source: Source, asked: Asked) -> Found:
    """One concept's row, at the output of the block that is asked for: no file says which it was trained at."""
    rows = unpack(source.path, "what it has", source.pickled)
    if rows.ndim != 2:
        raise source.error(f"has shape {list(rows.shape)}; AxBench writes a row for each concept")
    concepts = _read_concepts(source)
    if asked.feature is None or not 0 <= asked.feature < len(rows):
        some = "; ".join(f"{row} is {concept[:40]!r}" for row, concept in list(concepts.items())[:3])
        given = "no feature is given" if asked.feature is None else f"feature is {asked.feature}"
        raise source.error(
            f"has directions of {len(rows)} concepts, and {given}: say which, from 0 to "
            f"{len(rows) - 1}: feature = 0, or --feature 0{f' ({some}, …)' if some else ''}"
        )
    direction = as_direction(source.path, f"row {asked.feature}", rows[asked.feature])
    layers = source.say_layer(asked, None, what="a matrix that does not say of which layer it is")
    concept = concepts.get(asked.feature, "")
    kept: dict[str, str | int | float] = {"feature": asked.feature, "concept": concept[:200]}
    name = f"{source.path.name.removesuffix(ENDING)}-{asked.feature}"
    read_as = f"row {asked.feature}{f', {concept[:80]!r},' if concept else ''} at the output of {tell_layers(layers)}"
    return Found(dict.fromkeys(layers, direction), read_as, name, kept)


def _read_concepts(source: Source) -> dict[int, str]:
    """By row, what the concept is; empty where there is no such file."""
    path = source.find(*PLACES)
    found: dict[int, str] = {}
    for number, line in enumerate([] if path is None else read_text(Path(path)).splitlines()):
        if not line.strip():
            continue
        try:
            told = json.loads(line)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise source.error(f"{path} has a line {number + 1} that is no JSON object")
        row = told.get("concept_id", number)
        if type(row) is int:
            found[row] = str(told.get("concept", ""))
    return found
