"""What is settled: settings that an earlier stage has followed can no longer be changed for a later one alone."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from completions_lp.records import InputError, Sampling

_DRAWN = tuple(f"sampling.{item.name}" for item in fields(Sampling) if item.name != "top_up")
_MADE = ("prompts", "vector", "controls", *_DRAWN, "label.rule", "label.within", "label.pattern")
SETTLED = {
    "score": ("model.name", "model.revision", *_MADE),
    "report": ("model", "scoring", "sampling.top_up", "label.target", *_MADE),
}
"""By stage: what earlier stages have already done by the configuration that a run directory holds."""


def check_settled(
    stage: Literal["score", "report"], now: Mapping[str, Any], stored: Mapping[str, Any], folder: Path
) -> None:
    """Raise InputError if the configuration was changed where an earlier stage has followed it already.

    Args:
        stage: The stage that is to be run.
        now: The configuration, as ``dump_config`` gives it.
        stored: That of the run directory; empty for a new one.
        folder: The run directory, for the message.
    """
    for name in SETTLED[stage]:
        section, _, key = name.partition(".")
        then = stored.get(section)
        if then is None:
            continue
        for k in [key] if key else now[section]:
            if k in then and json.dumps(now[section][k]) != json.dumps(then[k]):
                raise InputError(
                    f"[{section}] {k} is {now[section][k]!r}, but {folder} was made with {then[k]!r}; "
                    f"run the earlier stage again with the new value, or leave it as it was"
                )
