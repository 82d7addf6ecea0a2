"""What ``run.json`` holds, checked as it is read: whoever reads it later finds what it expects or nothing at all."""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from completions_lp.records import InputError, describe_cause

SCHEMA_VERSION = 3
OURS = r"^(vectors/|figures/)?[^/\\\\\n]+$"
"""A file of a run: in its directory or one of two folders of it, nowhere else; what is on the list may be removed."""


class _Stage(BaseModel):
    model_config = ConfigDict(extra="allow")
    settings: dict[str, Any] = {}
    consumed: dict[str, str] = {}
    files: dict[str, str] = {}
    units: list[str] = []
    sources: dict[str, str] = {}
    failed: dict[str, str] = {}


class _Spent(BaseModel):
    model_config = ConfigDict(extra="allow")
    tokens: int = 0
    passes: int = 0


class _Asked(BaseModel):
    name: str
    revision: str | None
    dtype: str
    device: str
    remote: bool | str


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    device: str = "cpu"
    revision: str | None = None
    asked: _Asked | None = None
    files: dict[str, list[int]] = {}


class _Instrument(BaseModel):
    of: str = ""
    checks: dict[str, float | None] = {}
    errors: list[str] = []


def _check_section(value: Any) -> Any:
    """A section of the configuration, or several of one name."""
    if isinstance(value, dict) or (isinstance(value, list) and all(isinstance(one, dict) for one in value)):
        return value
    raise PydanticCustomError("section", "Input should be a section, or a list of sections")


class _Info(BaseModel):
    """The parts of ``run.json`` that are read again, and of what type; there may be others."""

    model_config = ConfigDict(extra="allow")
    config: dict[str, Annotated[Any, AfterValidator(_check_section)]]
    stages: dict[str, _Stage] = {}
    files: list[Annotated[str, Field(pattern=OURS)]] = []
    seed: int = 0
    timings: dict[str, float] = {}
    memory: dict[str, float | None] = {}
    token_counts: dict[str, _Spent] = {}
    instrument: _Instrument = _Instrument()
    machine: dict[str, Any] = {}
    model: _Model = _Model()
    rivals: dict[str, _Model] = {}
    versions: dict[str, Any] = {}


def parse_info(path: Path, text: str) -> dict[str, Any]:
    """The content of ``run.json``.

    Raises:
        InputError: It is not JSON, of another schema version, or a part of it is of another type than a run writes.
    """
    try:
        info = json.loads(text)
        json.dumps(info, ensure_ascii=False).encode()  # no half of a surrogate pair is written into a later file
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {describe_cause(error)}") from None
    version = info.get("schema_version") if isinstance(info, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema version {str(version)[:40]}; this version of completions_lp reads {SCHEMA_VERSION}"
        )
    try:
        _Info.model_validate(info, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: {where}: {first['msg']}; restore the file, or run again with --overwrite") from None
    return {"stages": {}, "files": [], **info}
