"""What direct draws of the steered model say beside the estimates <-> ``validation.parquet``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from completions_lp.records import Measures
from completions_lp.store.files import read_table, write_table
from completions_lp.store.keys import KEYS, condition_columns

ESTIMATED = ("p_A_steered", "p_A_steered_se", "p_A_steered_low", "p_A_steered_high")


def write_validation(
    folder: Path, measures: Measures, counted: Mapping[str, Shaped[np.ndarray, "condition prompt"]]
) -> None:
    """Write ``validation.parquet``: one row per condition that was checked and prompt.

    ``counted`` has ``n`` direct draws, ``n_A`` of them with the target, their ``share`` and its interval ``low`` and
    ``high``; the estimates with their bounds and trust stand beside them.
    """
    repeat = len(measures.conditions)
    write_table(
        folder / "validation.parquet",
        {
            "prompt_id": np.tile(np.array([p.id for p in measures.prompts], dtype=object), repeat),
            "cluster": np.tile(np.array([p.cluster for p in measures.prompts], dtype=object), repeat),
            **condition_columns(measures.conditions, len(measures.prompts)),
            **{name: counted[name].reshape(-1) for name in ("n", "n_A", "share", "low", "high")},
            **{name: measures.steered[name].reshape(-1) for name in ESTIMATED},
            "trust": measures.trust.reshape(-1).astype(object),
        },
    )


def read_validation(folder: Path) -> list[dict[str, Any]]:
    """Rows of ``validation.parquet``; none where nothing was checked.

    Raises:
        InputError: It was changed since it was written.
    """
    path = folder / "validation.parquet"
    if not path.is_file():
        return []
    counted = dict.fromkeys(("n", "n_A"), "whole") | dict.fromkeys(("share", "low", "high", *ESTIMATED), "number")
    kinds = {**KEYS, "cluster": "text", **counted, "trust": "text"}
    rows: list[dict[str, Any]] = read_table(path, "validation", kinds).to_pylist()
    return rows
