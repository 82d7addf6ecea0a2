"""What a run is told: the configuration, its defaults and its checks.

A TOML file has the sections and keys of the classes below; a key that is not given keeps its default, which is the
embedded model with its own prompts and pairs. Paths in a file are relative to that file.
"""

import dataclasses
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np

from completions_lp.records import InputError, Labelling, Positions, Rule, Sampling

_PACKAGE = Path(__file__).resolve().parent.parent
DATA = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent / "data"
"""The embedded model, prompts and pairs: inside an installed package, or beside it in a checkout."""
EMBEDDED = DATA / "run.toml"
"""The configuration of the embedded run."""
LOCAL = (".json", ".jsonl", ".csv", ".parquet", ".safetensors")
"""Endings that no name on a hub has."""


@dataclass(frozen=True)
class ModelSection:
    """``[model]``: which model, and where it runs."""

    name: str = str(DATA / "tiny-chooser")
    revision: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    remote: bool = False


@dataclass(frozen=True)
class PromptsSection:
    """``[prompts]``: what is asked."""

    path: str = str(DATA / "prompts" / "cautious.jsonl")
    split: str = "train"
    revision: str | None = None
    template: str = "{question}\n\nAnswer:"
    letters: tuple[str, ...] = ()
    limit: int | None = None


@dataclass(frozen=True)
class VectorSection:
    """``[vector]``: made from ``pairs``, or read from a ``path`` (a .safetensors file of this package)."""

    pairs: str = str(DATA / "pairs" / "cautious.jsonl")
    path: str | None = None
    read_token: str | int = "letter"
    layers: Literal["all"] | tuple[int, ...] = "all"


@dataclass(frozen=True)
class LabelSection:
    """``[label]``: when a completion counts as an answer."""

    rule: Rule = "letter"
    target: str = "A"
    within: int = 10
    pattern: str = ""


@dataclass(frozen=True)
class ScoringSection:
    """``[scoring]``: which conditions."""

    layers: Literal["all"] | tuple[int, ...] = "all"
    multipliers: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0)
    positions: Positions = "completion"
    kl: bool = True
    """Read entropies and divergences, too; without them there is no KL and no sampler test."""


@dataclass(frozen=True)
class ControlsSection:
    """``[controls]``: vectors that the target vector is compared with."""

    random_directions: int = 0
    shuffled_labels: int = 0
    negated: bool = False
    orthogonal_to: tuple[str, ...] = ()
    """Vector files; the target without its part along these, at its own norm, is a control of kind orthogonal."""


@dataclass(frozen=True)
class RunSection:
    """``[run]``: what a run may use."""

    memory_budget: float | None = None
    workers: int = 1


@dataclass(frozen=True)
class Config:
    """A whole run."""

    model: ModelSection = field(default_factory=ModelSection)
    prompts: PromptsSection = field(default_factory=PromptsSection)
    vector: VectorSection = field(default_factory=VectorSection)
    sampling: Sampling = field(default_factory=Sampling)
    label: LabelSection = field(default_factory=LabelSection)
    scoring: ScoringSection = field(default_factory=ScoringSection)
    controls: ControlsSection = field(default_factory=ControlsSection)
    run: RunSection = field(default_factory=RunSection)

    def __post_init__(self) -> None:
        _ = self.labelling
        if not self.scoring.multipliers:
            raise InputError("[scoring] multipliers is empty; at least one is needed")
        if not np.isfinite(self.scoring.multipliers).all():
            raise InputError(f"[scoring] multipliers is {list(self.scoring.multipliers)}; all must be finite numbers")
        self._check_layers()
        if self.prompts.limit is not None and self.prompts.limit < 1:
            raise InputError(f"[prompts] limit is {self.prompts.limit}; at least 1 is needed")
        if min(self.controls.random_directions, self.controls.shuffled_labels) < 0:
            raise InputError("[controls] random_directions and shuffled_labels count vectors; 0 is none")
        if self.vector.path is not None and self.controls.shuffled_labels:
            raise InputError(
                "[controls] shuffled_labels needs contrast pairs, and [vector] path gives a finished vector"
            )
        if self.run.memory_budget is not None and not self.run.memory_budget > 0:
            raise InputError(f"[run] memory_budget is {self.run.memory_budget} GiB; it must be above 0")
        if self.run.workers != 1:
            raise InputError(f"[run] workers is {self.run.workers}; this version runs in one process: leave it at 1")
        if self.model.remote:
            raise InputError("[model] remote = true: this version runs models on this machine only; leave it out")

    def _check_layers(self) -> None:
        for name, layers in (("vector", self.vector.layers), ("scoring", self.scoring.layers)):
            if layers == ():
                raise InputError(f'[{name}] layers is empty; give a list of layers, or "all"')
        made, wanted = self.vector.layers, self.scoring.layers
        if self.vector.path is None and isinstance(made, tuple) and isinstance(wanted, tuple):
            missing = sorted(set(wanted) - set(made))
            if missing:
                raise InputError(
                    f"[scoring] layers has layer {missing[0]}, for which no vector is made: "
                    f"[vector] layers is {list(made)}"
                )

    @property
    def labelling(self) -> Labelling:
        """The label rule as a record."""
        return Labelling(rule=self.label.rule, within=self.label.within, pattern=self.label.pattern)


def load_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), *, base: Mapping[str, Any] | None = None
) -> Config:
    """Read a TOML file (or nothing: ``base``, or else the defaults) and apply ``section.key=value`` overrides.

    Raises:
        InputError: The file is missing or not TOML, a key is unknown (the nearest one is named) or has a wrong type.
    """
    values: dict[str, Any] = {name: dict(section) for name, section in (base or {}).items()}
    if path is not None:
        values = _read_toml(Path(path))
    for override in overrides:
        _apply_override(values, override)
    return make_config(values)


def make_config(values: Mapping[str, Any]) -> Config:
    """A configuration from nested dictionaries, as they stand in a TOML file or in ``run.json``."""
    sections = {item.name: item.default_factory for item in dataclasses.fields(Config)}
    made = {}
    for name, given in values.items():
        _check_known(name, list(sections), "section")
        if not isinstance(given, Mapping):
            raise InputError(f"[{name}] must be a section with keys, got {given!r}")
        kind = sections[name]
        types = {item.name: item.type for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
        for key in given:
            _check_known(key, list(types), f"key of [{name}]")
        made[name] = kind(**{k: _convert(v, types[k], f"[{name}] {k}") for k, v in given.items()})  # type: ignore[operator]
    return Config(**made)


def dump_config(config: Config) -> dict[str, Any]:
    """Nested dictionaries that ``make_config`` takes back."""
    return dataclasses.asdict(config)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
    for section, key in (("model", "name"), ("prompts", "path"), ("vector", "pairs"), ("vector", "path")):
        given = values.get(section, {}).get(key) if isinstance(values.get(section), dict) else None
        if isinstance(given, str):
            values[section][key] = _resolve(given, path.parent)
    controls = values.get("controls")
    if isinstance(controls, dict) and isinstance(controls.get("orthogonal_to"), list):
        controls["orthogonal_to"] = [
            _resolve(given, path.parent) if isinstance(given, str) else given for given in controls["orthogonal_to"]
        ]
    return values


def _resolve(given: str, folder: Path) -> str:
    """A path relative to the configuration file, where there is such a file; a hub name stays as it is."""
    candidate = folder / Path(given).expanduser()
    looks_local = given.startswith((".", "/", "~")) or Path(given).suffix in LOCAL
    return str(candidate.resolve()) if looks_local or candidate.exists() else given


def _apply_override(values: dict[str, Any], override: str) -> None:
    name, found, text = override.partition("=")
    section, dot, key = name.strip().partition(".")
    if not (found and dot and section and key):
        raise InputError(f"--set {override!r}: write section.key=value, for example --set sampling.n=50")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    values.setdefault(section, {})
    if isinstance(values[section], dict):
        values[section][key] = value


def _check_known(name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0)
        raise InputError(f"unknown {what}: {name!r}; the nearest is {near[0]!r}. Known: {', '.join(known)}")


def _convert(value: Any, kind: Any, where: str) -> Any:
    """``value`` as the type that a key is declared with, or an InputError that says what was needed."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    for option in options:
        converted = _fit(value, option)
        if converted is not None or (option is type(None) and value is None):
            return converted
    raise InputError(f"{where} is {value!r}; it needs {' or '.join(_describe(option) for option in options)}")


def _fit(value: Any, kind: Any) -> Any:
    """The value as ``kind``, or None where it is not one."""
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        if not isinstance(value, list | tuple):
            return None
        fitted = tuple(_fit(item, inner) for item in value)
        return None if any(item is None for item in fitted) else fitted
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, bool):
        return None
    return value if kind in (int, str, bool) and isinstance(value, kind) else None


def _describe(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(repr(choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list of {({int: 'integers', float: 'numbers', str: 'texts'})[get_args(kind)[0]]}"
    return {int: "an integer", float: "a number", str: "text", bool: "true or false"}.get(kind, "nothing")
