"""A run's two-choice read-out as result files of other tools."""

import shlex
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from completions_lp import store
from completions_lp.job.results import load
from completions_lp.records import Choices, Condition, InputError, Positions, Report
from completions_lp.store.caa import LETTERS, pack_results
from completions_lp.store.lm_eval import pack_samples

CAA, LM_EVAL = "caa", "lm-eval"
FORMATS = (CAA, LM_EVAL)
BEHAVIORS = (
    *("coordinate-other-ais", "corrigible-neutral-HHH", "hallucination", "myopic-reward"),
    *("power-seeking-inclination", "survival-instinct", "sycophancy"),
)
"""Those of which CAA's plots know a name."""


@dataclass(frozen=True)
class Told:
    """What files of other tools say that a run does not, or that is to be chosen of it."""

    name: str = ""
    """caa: the behaviour; lm-eval: the task. The prompts' file by default."""
    model_size: str = "7b"
    """caa: what its plots look for, which is 7b by default."""
    vector: str = ""
    """Whose conditions; of several vectors it has to be said."""
    positions: Positions | None = None
    """At which positions; of several it has to be said."""


def export_results(folder: Path, name: str, out: Path, told: Told | None = None) -> tuple[list[Path], list[str]]:
    """Write the two-choice read-out of a run for another tool; returns the files, and what to know of them.

    Files that are there already with the very same content are left as they are.

    Raises:
        InputError: The format is not known, it cannot hold what was read or no cell is left that it can hold, or a file
            of such a name is there and differs: nothing is written then.
    """
    told = told or Told()
    if name not in FORMATS:
        raise InputError(f"format {name!r} is not written; known are {', '.join(FORMATS)}")
    report = load(folder, sets=False)
    choices = report.choices
    if choices is None:
        raise InputError(
            f"{folder}: has no two-choice read-out, since its answers are outcomes that no text spells; CAA's results "
            "and lm-eval's samples are of answers on offer"
        )
    choices, notes = _pick_conditions(choices, told)
    config = report.info.get("config", {})
    called = told.name or Path(str(config.get("prompts", {}).get("path") or "prompts")).stem
    if name == CAA:
        files = pack_results(choices, behavior=called, model_size=told.model_size)
        notes += _tell_caa(report, choices, called)
    else:
        model = Path(str(config.get("model", {}).get("name") or "model")).name
        files = pack_samples(choices, task=called, model=model, date=_find_date(folder))
        notes.append(
            "log likelihoods are of the tokens from where the answers of a prompt part; what all of them begin with "
            "is part of the context. Whether greedy decoding says an answer is not known"
        )
    return _write_new(out, files), notes


def _pick_conditions(choices: Choices, told: Told) -> tuple[Choices, list[str]]:
    """What one file per layer and multiplier can hold: one vector, added at single layers, at the same positions."""
    conditions = choices.conditions
    notes: list[str] = []
    kept = [i for i, c in enumerate(conditions) if c.kind in ("target", "further")]
    _count_out(notes, len(conditions) - len(kept), "controls and rivals")
    kept = [i for i in kept if not conditions[i].is_neutral]  # what does nothing is the unsteered model
    plain = [i for i in kept if conditions[i].is_plain]
    _count_out(notes, len(kept) - len(plain), "what is not a vector added at one layer")
    for option, asked, find in (
        ("--vector", told.vector, lambda c: c.vector),
        ("--positions", told.positions, lambda c: c.positions),
    ):
        plain = _narrow(conditions, plain, option, asked or "", find)
    return choices.select(plain), notes


def _narrow(
    conditions: tuple[Condition, ...], kept: list[int], option: str, asked: str, find: Callable[[Condition], str]
) -> list[int]:
    known = list(dict.fromkeys(find(conditions[i]) for i in kept))
    if not known:
        raise InputError("no condition of this run adds a vector at one layer, which is all that such files can hold")
    if asked and asked not in known:
        raise InputError(f"{option} {asked!r} is none of this run's: {', '.join(known)}")
    if not asked and len(known) > 1:
        raise InputError(f"such files hold one of {', '.join(known)}: say which, {option} {shlex.quote(known[0])}")
    return [i for i in kept if find(conditions[i]) == (asked or known[0])]


def _count_out(notes: list[str], n: int, what: str) -> None:
    if n:
        notes.append(f"{n} conditions are left out: {what}")


def _tell_caa(report: Report, choices: Choices, behavior: str) -> list[str]:
    notes = []
    if behavior not in BEHAVIORS:
        notes.append(f"CAA's own plots refuse a behaviour other than {', '.join(BEHAVIORS)}: --name gives it one")
    more = sum(prompt.letters != LETTERS for prompt in choices.prompts)
    if more:
        notes.append(
            f"{more} prompts offer further choices, of which such files know nothing: their shares are of A and B alone"
        )
    if report.target != "matching":
        notes.append(f"CAA's average is of the matching answer; this run's target is {report.target}")
    return notes


def _find_date(folder: Path) -> str:
    """When the read-out was written, in the way in which lm-eval has it in its files' names."""
    written = datetime.fromtimestamp((folder / "choices.parquet").stat().st_mtime, tz=UTC)
    return written.strftime("%Y-%m-%dT%H-%M-%S.%f")


def _write_new(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Write files that are not there yet, or none of them."""
    paths = {out / name: data for name, data in files.items()}
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is no folder; name one for the {len(files)} files")
    missing = {}
    for path, data in paths.items():
        if not (path.exists() or path.is_symlink()):
            missing[path] = data
        elif path.is_symlink() or not path.is_file() or path.read_bytes() != data:
            raise InputError(f"{path}: is there already and differs from what is to be written; name another folder")
    for path, data in missing.items():
        store.make_folder(path.parent)
        store.write_bytes(path, data)
    return list(paths)


def count_folders(paths: list[Path]) -> Mapping[Path, int]:
    """How many files were written, by folder."""
    return Counter(path.parent for path in paths)
