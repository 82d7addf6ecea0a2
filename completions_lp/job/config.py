"""What a run is told: the configuration, its defaults and its checks.

A TOML file has the sections and keys of the classes below; a key that is not given keeps its default, which is the
embedded model with its own prompts and pairs. Paths in a file are relative to that file. The docstring below a key is
its description, in the commented defaults and in the JSON schema alike.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, ValidationError, field_validator, model_validator
from pydantic_core import from_json, to_json

from completions_lp.job.label import LabelSection, Section
from completions_lp.job.off_target import OffTargetSection, check_sets
from completions_lp.job.rival import MOST, RivalSection, check_rivals
from completions_lp.job.schema import explain, write_defaults
from completions_lp.job.toml import apply_overrides, read_toml
from completions_lp.records import InputError, Labelling, Operation, Sampling, Through
from completions_lp.records.base import POSITIONS
from completions_lp.steer.estimates import Method

_PACKAGE = Path(__file__).resolve().parent.parent
DATA = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent / "data"
"""The embedded model, prompts and pairs: inside an installed package, or beside it in a checkout."""
EMBEDDED = DATA / "run.toml"
"""The configuration of the embedded run."""
UNREAD = ("an outcome", "another one")
"""Answers of open questions that are asked for outcomes, which take their place before anything reads them."""
DEPTH = 8
"""How deep a configuration may be nested; it has sections, keys and lists."""

_SERVER_DECIDES = {
    **{"dtype": "auto", "device": "auto", "residual": "float32"},
    **{"device_map": "", "offload_folder": None, "tp_size": 1},
}

Layer = Annotated[int, Field(ge=0, lt=10_000)]
Layers = Literal["all"] | Annotated[tuple[Layer, ...], Field(min_length=1)]
Group = Layer | Annotated[tuple[Layer, ...], Field(min_length=1)] | Literal["all"]
Groups = Literal["all"] | Annotated[tuple[Group, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=10_000)]
Fields = dict[str, str | tuple[str, ...]]
Multiplier = Annotated[FiniteFloat, Field(ge=-1e6, le=1e6)]


class ModelSection(Section):
    """Which model, and where it runs."""

    name: str = str(DATA / "tiny-chooser")
    """A hub name, a local folder (of a LoRA adapter, too) or a .gguf file."""
    revision: str | None = None
    """A branch, tag or commit of the hub."""
    dtype: str = "auto"
    """auto (what is measured to be fast and to round little), float32, bfloat16, float16 or float64."""
    residual: Literal["float32", "weights"] = "float32"
    """float32: with half-precision weights, only products are in half precision; weights: everything is, and noisy."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:N or mps."""
    device_map: str | dict[str, str | int] = ""
    """Where a model goes that is larger than one device: auto, balanced or sequential over all GPUs, then memory, then
    disk; or a table of parts and devices, {"model.layers" = 0, "lm_head" = "cpu"}. Empty: all of it on device."""
    offload_folder: str | None = None
    """Where weights are written that lie on disk and cannot be read from the model's own files."""
    tp_size: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that share every block of the model (tensor parallelism), all started by torchrun."""
    remote: bool | Annotated[str, Field(pattern=r"^https?://")] = False
    """true: the model runs on NDIF, or on the server that NDIF_HOST names; or the address of one,
    "http://localhost:5001". Its weights never come here; precision and device are the server's."""

    @model_validator(mode="after")
    def _check_remote(self) -> "ModelSection":
        given = [name for name, value in _SERVER_DECIDES.items() if getattr(self, name) != value]
        if self.remote and given:
            raise InputError(f"[model] {given[0]} is the server's to decide where remote is given; leave it out")
        return self


class PromptsSection(Section):
    """What is asked."""

    path: str = str(DATA / "prompts" / "cautious.jsonl")
    """Questions with their answers: a .json, .jsonl, .csv, .tsv or .parquet file, or the name of a hub dataset."""
    subset: str | None = None
    """Subset (configuration) of a hub dataset."""
    split: str = "train"
    """Split of a hub dataset."""
    revision: str | None = None
    """Revision of a hub dataset."""
    template: str = "{question}\n\nAnswer:"
    """A format string over the file's fields, or "chat" for the model's own chat template."""
    system: str = ""
    """The system's turn of a chat; for the pairs, too, as all that says how is asked."""
    few_shot: tuple[dict[Literal["user", "assistant"], str], ...] = ()
    """Turns of a chat before the question, for example [{user = "Is ice cold?", assistant = "Yes"}]."""
    prefix: str = ""
    """How the answer begins, for example "(" or "My answer is: (": then the first token read is the answer's own."""
    fields: Fields = {}  # noqa: RUF012  pydantic copies it
    """Columns that are not called as in a known format, for example {question = "q", matching = "good"}: question,
    messages, matching, not_matching, choices, answer, positive, negative, id, cluster."""
    answers: tuple[str, ...] = ()
    """Answers to open questions, whose rows have none, the matching one first: for example ["Yes", "No"]."""
    letters: tuple[str, ...] = ()
    """Keep only prompts whose two answers are among these, for example ["A", "B"]; [] keeps all."""
    swap: bool = False
    """Ask each question also with the texts of its two choices exchanged, letters in place: what follows the behaviour
    and what follows the letter are then told apart."""
    limit: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Keep only so many questions, the first ones."""

    @property
    def asking(self) -> dict[str, Any]:
        """How questions are put, which holds for pairs, too."""
        return self.model_dump(include={"template", "system", "few_shot", "prefix"})

    @property
    def options(self) -> dict[str, Any]:
        """What ``load_prompts`` is told."""
        return self.model_dump(exclude={"path"})


class VectorSection(Section):
    """The steering vector: made from contrast pairs, or read from a file."""

    pairs: str = str(DATA / "pairs" / "cautious.jsonl")
    """Contrast pairs, in a file or dataset as for the prompts."""
    subset: str | None = None
    """Subset (configuration) of a hub dataset."""
    split: str = "train"
    """Split of a hub dataset."""
    revision: str | None = None
    """Revision of a hub dataset."""
    fields: Fields = {}  # noqa: RUF012  pydantic copies it
    """Columns of the pairs, as for the prompts."""
    path: str | None = None
    """A finished vector, a .safetensors file of this package; then no pairs are read."""
    method: Method = "mean_difference"
    """mean_difference (of positive less negative texts), pca (first principal component of the pairs' differences) or
    lda (difference of means, whitened by the covariance within each side); all as long as the mean difference."""
    read_token: str | Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = "letter"
    """Where a text is read: "letter" (the answer's token), "last", an index such as -2, or over several tokens, as
    their mean: "response_mean" (the whole answer), "prompt_mean" (what is asked, where the two texts ask otherwise)."""
    layers: Layers = "all"
    """Layers that vectors are made for, 0-based blocks, or "all"."""


class ScoringSection(Section):
    """Under which conditions the completions are scored: layers x multipliers."""

    layers: Groups = "all"
    """Layers at whose output the vector enters, 0-based blocks, each by itself, or "all", each of them by itself. A
    list in the list is steered at once, by one condition: [[10, 11, 12], "all"] are two, three layers and all."""
    multipliers: Annotated[tuple[Multiplier, ...], Field(min_length=1, max_length=10_000)] = (-2.0, -1.0, 1.0, 2.0)
    """What the vector is multiplied with."""
    operation: Operation = "add"
    """What is done along the vector: "add" it, "ablate" (the multiplier times the component along it is taken away: 1
    removes it, 2 reflects it) or "clamp" (the component is set: 1 and -1 are where the positive and the negative texts
    of the pairs are on average)."""
    positions: str = "completion"
    """What is steered: "completion" is from the last prompt token on, "all" the prompt too, "prompt" the prompt alone,
    "first:N" N tokens from the last of the prompt on, which bear on the first N that are said."""
    kl: bool = True
    """Read entropies and divergences, too; without them there is no KL and no sampler test."""
    through: Through = "end"
    """How far completions are scored: through their "end", the "window" of [label] within, or their "answer" (the
    window where there is none). The last two are all that P(A) and the increase to the answer need; what is over whole
    completions is missing then, KL among it."""
    readings: bool | Literal["auto"] = "auto"
    """Read all answers at the end of each completion's reasoning, too: true, false, or "auto", where [label] rule is
    "final_answer" or there is a cue."""
    cue: Annotated[str, Field(max_length=10_000)] = ""
    """Text that is put behind the reasoning before the answers are read there, such as "\nThe answer is (". Without
    one they are read where the completion has its answer, or has none and stops."""

    @field_validator("positions")
    @classmethod
    def _check_positions(cls, value: str) -> str:
        if re.fullmatch(POSITIONS, value) is None:
            raise InputError(
                f'[scoring] positions is {value[:80]!r}; it must be "completion", "all", "prompt", or "first:N" with N '
                'from 1 to 999999, such as "first:3"'
            )
        return value

    @property
    def groups(self) -> tuple[Group, ...] | None:
        """The layers of each condition; None for every layer by itself."""
        return None if self.layers == "all" else self.layers

    @property
    def named_layers(self) -> tuple[int, ...]:
        """All layers that are named, upwards: none where all are meant."""
        found = [group if isinstance(group, tuple) else (group,) for group in self.groups or ()]
        return tuple(sorted({layer for group in found for layer in group if layer != "all"}))


class ControlsSection(Section):
    """Vectors that the target vector is compared with."""

    random_directions: Count = 0
    """Random vectors of the same norm; 19 or more for a p-value."""
    shuffled_labels: Count = 0
    """Vectors from the same pairs with signs flipped at random."""
    negated: bool = False
    """The vector with the opposite sign."""
    orthogonal_to: tuple[str, ...] = ()
    """Vector files; the target without its part along these, at its own norm, is a control of kind orthogonal."""


class RunSection(Section):
    """What a run may use."""

    memory_budget: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """GiB that a pass may take; a quarter of all memory by default."""
    store: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """Where finished units go that runs and machines share: a folder, or s3://BUCKET/PLACE, gs://BUCKET/PLACE, any URL
    that fsspec knows; by default the run's own directory. Nothing is ever removed from there."""
    workers: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Processes that do the work, each with a model of its own, by Ray; with 1 this process does it all."""
    address: str = ""
    """A Ray cluster to join: "auto", or HOST:PORT; "" makes one on this machine for as long as the run takes."""
    gpus_per_worker: Annotated[int, Field(ge=1, le=1_000)] = 1
    """GPUs of each worker, where there are any; cores are shared among the workers of a machine."""


class Config(Section):
    """A whole run."""

    model: ModelSection = ModelSection()
    prompts: PromptsSection = PromptsSection()
    vector: VectorSection = VectorSection()
    sampling: Sampling = Sampling()
    label: LabelSection = LabelSection()
    scoring: ScoringSection = ScoringSection()
    controls: ControlsSection = ControlsSection()
    run: RunSection = RunSection()
    rival: Annotated[tuple[RivalSection, ...], Field(max_length=MOST)] = ()
    off_target: Annotated[tuple[OffTargetSection, ...], Field(max_length=MOST)] = ()

    @model_validator(mode="after")
    def _check(self) -> "Config":
        _ = self.labelling
        check_rivals(self.rival, template=self.prompts.template)
        check_sets(self.off_target, layers=self.scoring.groups, multipliers=self.scoring.multipliers)
        if self.model.tp_size > 1 and self.run.workers > 1:
            raise InputError(
                f"[run] workers is {self.run.workers} and [model] tp_size {self.model.tp_size}: workers have a model "
                "each, and ranks share one; give one of the two"
            )
        if self.vector.path is not None and self.controls.shuffled_labels:
            raise InputError(
                "[controls] shuffled_labels needs contrast pairs, and [vector] path gives a finished vector"
            )
        if self.vector.path is not None and self.vector.method != "mean_difference":
            raise InputError(
                f"[vector] method is {self.vector.method!r}, by which a vector is made of contrast pairs, and [vector] "
                "path gives a finished vector; leave one of the two out"
            )
        if self.model.remote and (self.run.workers > 1 or self.run.address):
            raise InputError("[run] workers and address are of models that run here, and [model] remote is given")
        made, wanted = self.vector.layers, self.scoring.named_layers
        if self.vector.path is None and made != "all" and (missing := set(wanted) - set(made)):
            raise InputError(
                f"[scoring] layers has layer {min(missing)}, for which no vector is made: "
                f"[vector] layers is {list(made)}"
            )
        if self.labelling.names and (self.scoring.cue or self.scoring.readings is True):
            raise InputError(
                "[scoring] readings and cue ask for answers to be read out, and the outcomes of [label] "
                f"({', '.join(self.labelling.names)}) are no answers that a token spells; leave both out"
            )
        if self.scoring.cue and self.scoring.readings is False:
            raise InputError("[scoring] cue is put before answers that are read, and readings is false; leave one out")
        return self

    @property
    def reads_endings(self) -> bool:
        """Whether answers are read at the end of each completion's reasoning."""
        asked = self.scoring.readings
        wanted = bool(self.scoring.cue) or self.labelling.rule == "final_answer" if asked == "auto" else asked
        return wanted and not self.labelling.names

    @property
    def prompts_options(self) -> dict[str, Any]:
        """What ``load_prompts`` is told. Where outcomes have names of their own, rows need no answers."""
        own = self.prompts.answers or not self.labelling.names
        return self.prompts.options | ({} if own else {"answers": UNREAD})

    @property
    def pairs_options(self) -> dict[str, Any]:
        """What ``load_pairs`` is told."""
        return self.prompts.asking | self.vector.model_dump(
            include={"fields", "subset", "split", "revision", "read_token"}
        )

    @property
    def labelling(self) -> Labelling:
        """The label rule as a record; a function of the user's own is in it by its name alone."""
        return self.label.labelling


def load_config(
    path: str | Path | None = None, overrides: Sequence[str] = (), *, base: Mapping[str, Any] | None = None
) -> Config:
    """Read a TOML file (or nothing: ``base``, or else the defaults) and apply ``section.key=value`` overrides.

    Raises:
        InputError: The file is missing or not TOML, a key is unknown (the nearest one is named) or has a wrong type.
    """
    values: dict[str, Any] = {
        name: dict(section) if isinstance(section, Mapping) else section for name, section in (base or {}).items()
    }
    if path is not None:
        values = read_toml(Path(path))
    apply_overrides(values, overrides)
    return make_config(values)


def find_function(path: str | Path | None, overrides: Sequence[str]) -> str:
    """The label function that a file or overrides name, whatever else they say; empty for none."""
    values = {} if path is None else read_toml(Path(path))
    apply_overrides(values, overrides)
    label = values.get("label")
    named = label.get("function", "") if isinstance(label, dict) else ""
    return named if isinstance(named, str) else ""


def make_config(values: Mapping[str, Any]) -> Config:
    """A configuration from nested dictionaries, as they stand in a TOML file or in ``run.json``.

    Raises:
        InputError: A key is unknown (the nearest one is named), has a wrong type, or does not go with another.
    """
    _check_values(values)
    text = to_json(values, inf_nan_mode="constants", fallback=str)
    try:  # strict: no text is taken for a number; in JSON, lists are right for tuples all the same
        return Config.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise InputError(explain(error.errors(), from_json(text), Config)) from None


def _check_values(values: Any, where: str = "", depth: int = 0) -> None:
    """Raise InputError for what no configuration holds, and no message could show: whatever key it stands under."""
    where = where[:80]
    if depth > DEPTH:
        raise InputError(f"{where} is nested more than {DEPTH} deep; a configuration has sections, keys and lists")
    if isinstance(values, Mapping):
        for key, value in values.items():
            _check_values(str(key), f"key {str(key)[:40]!r}", depth)
            _check_values(value, f"{where}.{key}" if where else str(key), depth + 1)
    elif isinstance(values, list | tuple):
        for value in values:
            _check_values(value, where, depth + 1)
    elif isinstance(values, int) and not -(2**63) <= values < 2**63:
        raise InputError(f"{where} is an integer of more than 64 bits; none is needed")
    elif isinstance(values, str) and ("\0" in values or any("\ud800" <= sign <= "\udfff" for sign in values)):
        raise InputError(f"{where} is {values[:200]!r}: NUL and halves of surrogate pairs are no text")


def make_schema() -> dict[str, Any]:
    """The JSON schema of a configuration file, by which editors complete and check it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def format_defaults() -> str:
    """Every section and key with its default and what it means: TOML that reads back as the defaults."""
    return write_defaults(Config())
