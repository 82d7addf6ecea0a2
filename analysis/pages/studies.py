"""The studies of the real model, as the pages on papers use them: their runs, what is kept, and a few statistics.

What a script asks of the model is kept as a table beside the runs, in `STUDY_DIR/papers`, under a name that holds all
that it follows from: a script that is run again asks for nothing twice.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blocks import FIGURES
from matplotlib.figure import Figure
from scipy import stats as scipy_stats

import completions_lp as clp
from completions_lp.show.figures.page import BLUE, COLUMN, GREY, RED, STYLE, YELLOW
from completions_lp.stats import mean_interval

COLOURS = {"sycophancy": BLUE, "optimism": RED, "risk_taking": GREY, "corrigibility": YELLOW}
BEHAVIOURS = tuple(COLOURS)
ANSWER = {"question": "situation", "matching": "matching", "not_matching": "not_matching"}
"""The fields of a row that make a pair of the same question with either answer written out, without letters."""
Columns = Mapping[str, np.ndarray]


def find_studies(folder: Path) -> dict[str, Path]:
    """The run folder of each behaviour that has one, in the order in which the pages tell them."""
    found = {name: folder / name for name in BEHAVIOURS if (folder / name / "run.json").is_file()}
    if not found:
        raise SystemExit(f"{folder} has no runs named {', '.join(BEHAVIOURS)}; analysis/reproduce.sh makes them")
    return found


def load_studies(folder: Path) -> dict[str, clp.Report]:
    """The report of each."""
    return {name: clp.load(run, sets=False) for name, run in find_studies(folder).items()}


def say_behaviour(name: str) -> str:
    """A behaviour in words."""
    return name.replace("_", " ")


def read_config(run: Path) -> dict[str, Any]:
    """What a run was asked for."""
    config: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]
    return config


def load_network(runs: Mapping[str, Path]) -> Any:
    """The model that the runs were made with, in the precision that they found."""
    made = [json.loads((run / "run.json").read_text(encoding="utf-8"))["model"] for run in runs.values()]
    precision = {key: made[0][key] for key in ("dtype", "residual")}
    names = {read_config(run)["model"]["name"] for run in runs.values()}
    if len(names) > 1 or any(precision != {key: one[key] for key in precision} for one in made):
        raise SystemExit("the runs are of several models, or of one in several precisions; make them alike")
    return clp.load_model(names.pop(), **precision)


def load_questions(run: Path, tokenizer: Any, **changes: Any) -> tuple[clp.Prompt, ...]:
    """The two-choice questions of a run, as it asked them but for some changes (`system`)."""
    asked = read_config(run)["prompts"]
    return clp.load_prompts(asked["path"], tokenizer, **{"template": asked["template"], **changes})


def pick_questions(prompts: Sequence[clp.Prompt]) -> list[int]:
    """Of each cluster, the first question that matches with each letter: balanced, and of all clusters."""
    first: dict[tuple[str, str], int] = {}
    for i, prompt in enumerate(prompts):
        first.setdefault((prompt.cluster, prompt.matching), i)
    return sorted(first.values())


def load_answers(path: str | Path, tokenizer: Any) -> tuple[Any, ...]:
    """Rows of a file of the study as pairs of written answers, each read as its mean."""
    return clp.load_pairs(path, tokenizer, template="chat", fields=ANSWER, read_token="response_mean")  # noqa: S106


def find_vector(run: Path) -> clp.SteeringVector:
    """The vector of a run that its report is about: the mean difference over written answers."""
    (path,) = (path for path in sorted((run / "vectors").glob("*.safetensors")) if _is_target(path))
    return clp.load_vector(path)


def _is_target(path: Path) -> bool:
    return clp.load_vector(path).kind == "target"


def find_clearest(vector: clp.SteeringVector) -> int:
    """The layer at which the vector's own pairs lie furthest apart along it (held-out d')."""
    return max(vector.quality, key=lambda layer: vector.quality[layer].d_prime)


def keep(folder: Path, name: str, follows: Mapping[str, Any], make: Callable[[], Columns]) -> dict[str, np.ndarray]:
    """Columns as they are kept, or made and kept: one table for each content of `follows`."""
    text = json.dumps(follows, sort_keys=True, default=str)
    path = folder / "papers" / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.parquet"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        pq.write_table(pa.table({key: np.asarray(column) for key, column in make().items()}), part)
        part.replace(path)
    return {key: column.to_numpy(zero_copy_only=False) for key, column in zip(*_columns(path), strict=True)}


def _columns(path: Path) -> tuple[Sequence[str], Sequence[Any]]:
    table = pq.read_table(path)
    return table.column_names, table.columns


def describe_run(run: Path) -> dict[str, Any]:
    """What all that a script reads of a run's model, vector and questions hangs on; files by what they hold."""
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    asked = {name: info["config"][name] for name in ("prompts", "vector")}
    files = (asked["prompts"]["path"], asked["vector"]["pairs"])
    hashes = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in files]
    return {**asked, "files": hashes, "model": {key: info["model"][key] for key in ("weights", "dtype", "residual")}}


def number_clusters(names: Sequence[str]) -> np.ndarray:
    """Each prompt's cluster as an index."""
    return np.unique(np.asarray(names, dtype=str), return_inverse=True)[1]


def average(values: np.ndarray, clusters: np.ndarray, unit: str = "") -> tuple[float, float, float]:
    """Mean over prompts with its interval (cluster t); limits are NaN where there is none."""
    found = mean_interval(np.asarray(values, dtype=np.float64), clusters, unit=unit)
    return found.value, *(np.nan if end is None else end for end in (found.low, found.high))


def correlate(x: np.ndarray, y: np.ndarray, *, ranks: bool = False) -> float:
    """Pearson's correlation, or Spearman's, over what is defined in both; NaN below three, or where one is constant."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y = np.asarray(x)[both], np.asarray(y)[both]
    if len(x) < 3:
        return np.nan
    if ranks:
        x, y = scipy_stats.rankdata(x), scipy_stats.rankdata(y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(x, y)[0, 1])


def resample(
    statistic: Callable[[np.ndarray], float], clusters: np.ndarray, *, rng: np.random.Generator, n: int = 1999
) -> tuple[float, float, float]:
    """A statistic of rows with its 95 % percentile interval, whole clusters drawn with replacement.

    `statistic` takes indices of rows. Fewer than six clusters give no interval.
    """
    rows = [np.flatnonzero(clusters == cluster) for cluster in np.unique(clusters)]
    value = statistic(np.arange(len(clusters)))
    if len(rows) < 6:
        return value, np.nan, np.nan
    drawn = [statistic(np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])) for _ in range(n)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return value, float(low), float(high)


in_style = mpl.rc_context(STYLE)
"""A decorator for what draws: in the style of the other figures."""


def start_figure(height: float) -> Figure:
    """An empty figure of one column; `height` in inches."""
    return Figure(figsize=(COLUMN, height), layout="constrained")


def save_figure(figure: Figure, name: str, rows: Sequence[Mapping[str, Any]], caption: str) -> None:
    """The picture, its caption, and the numbers that are drawn."""
    figure.savefig(FIGURES / f"papers_{name}.png", dpi=200)
    (FIGURES / f"papers_{name}.txt").write_text(caption + "\n", encoding="utf-8")
    with (FIGURES / f"papers_{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
