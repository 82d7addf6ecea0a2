"""What the reader of a report must be told, though nothing failed."""

from collections.abc import Sequence

import numpy as np

from completions_lp.quantities import SWEPT, find_quantity
from completions_lp.records import Increases, ReportRow
from completions_lp.report.controls import find_sweep
from completions_lp.report.prompts import Columns
from completions_lp.stats import FEW_CLUSTERS, MIN_CLUSTERS, MIN_DIRECTIONS

ENOUGH_DRAWS = 100
"""With fewer draws of a prompt the number of draws is the first suspect where P(A) cannot be trusted: 20 effective ones
are asked for at every step (``stats.bounds``), which few draws do not give however weak the steering."""
MOST_SILENT = 0.5
"""With more completions that give no answer, the label rule or the question is the first suspect."""
LITTLE_MASS = 0.1
"""Below this probability of all choices, what is read at the end of reasonings is about little that would be said."""
SKEW = 0.25
"""Bootstrap-t limits that are further from the t limits than this share of the interval's width are told."""


def list_caveats(increases: Increases, columns: Columns, rows: Sequence[ReportRow]) -> list[str]:
    """Sentences about the sample, the trust in P(A), the controls and the intervals, each with what to do."""
    return [
        *_tell_sample(increases, columns),
        *_tell_trust(increases, columns),
        *_tell_readings(columns),
        *_tell_controls(columns),
        *_tell_skew(rows),
    ]


def count_red(columns: Columns) -> tuple[int, int]:
    """Prompt × condition pairs of the target vector whose P(A) cannot be trusted, and how many were graded."""
    if columns.trust is None:
        return 0, 0
    trust = columns.trust[find_sweep(columns.conditions)]
    return int((trust == "red").sum()), int((trust != "").sum())


def _tell_sample(increases: Increases, columns: Columns) -> list[str]:
    told = []
    share, n = columns.unsteered.get("share_A", np.array([])), len(np.unique(columns.clusters))
    empty = int((share == 0).sum())
    if empty:
        told.append(
            f"{empty} of {len(share)} prompts have no completion with the target answer; means over A leave them out"
        )
    completions = increases.completions
    silent, draws = int(completions.counts[completions.label == ""].sum()), int(completions.counts.sum())
    if silent > MOST_SILENT * draws:
        told.append(
            f"{silent} of {draws} completions ({silent / draws:.0%}) give no answer by rule "
            f"{completions.labelling.rule} within the window; completions-lp labels RUN_DIR shows what other rules "
            "find in them"
        )
    labelling, window = completions.labelling, completions.window
    if not labelling.is_first_passage and window < completions.sampling.max_new_tokens:
        told.append(
            f"rule {labelling.rule} looks at the first {window} tokens of completions of up to "
            f"{completions.sampling.max_new_tokens}, and whatever they answer later does not count; set "
            '[label] within = "all"'
        )
    if n < MIN_CLUSTERS:
        told.append(
            f"too few prompts: {n} independent units; points only, no interval and no p-value below {MIN_CLUSTERS}"
        )
    elif n < FEW_CLUSTERS:
        told.append(f"few prompts: {n} independent units; intervals are wide and lean on normality")
    if not completions.sampling.is_ancestral:
        told.append(
            "completions were not drawn by plain sampling at temperature 1: increase_all is not −KL, the average "
            "increase is not a bound on the change of P(A), and P(A), KL and the sampler test are undefined; the log "
            "probs under which they were drawn are sampler_logprob of completions.parquet"
        )
    return told


def _tell_trust(increases: Increases, columns: Columns) -> list[str]:
    red, graded = count_red(columns)
    if not red or columns.trust is None or not increases.completions.sampling.is_ancestral:
        return []
    told = (
        f"P(A) under steering is not to be trusted (red) for {red} of {graded} prompt x condition pairs of the target "
        f"vector ({red / graded:.0%}): "
    )
    draws, topped = increases.completions.sampling.draws, increases.completions.sampling.top_up
    idle = columns.trust[[c.kind == "target" and c.is_neutral for c in columns.conditions]]
    without = (idle == "red").sum() / max((idle != "").sum(), 1)
    if draws < ENOUGH_DRAWS or without >= red / graded:
        at_rest = f" (red without any steering, at multiplier 0: {without:.0%})" if without else ""
        seeds = max(1, len(increases.completions.sampling.seeds))
        least, now = -(-ENOUGH_DRAWS // seeds), draws // seeds
        wanted = f"= {least}" if draws < ENOUGH_DRAWS else f"above {now}"
        return [
            f"{told}{draws} draws a prompt are too few to tell{at_rest}; set [sampling] n {wanted} first, and top_up "
            "for what is red then"
        ]
    advice = f"raise [sampling] top_up above {topped}" if topped else "set [sampling] top_up = 100"
    return [
        f"{told}too few of the unsteered completions look like steered ones; {advice} to draw steered completions for "
        "them"
    ]


def _tell_readings(columns: Columns) -> list[str]:
    """What is read at the end of reasonings, where it says little."""
    told = []
    if "read_red" in columns.steered:
        red = columns.steered["read_red"][find_sweep(columns.conditions)]
        n, graded = int((red == 1).sum()), int(np.isfinite(red).sum())
        if n:
            told.append(
                f"reasonings of the steered model are not to be trusted (red) for {n} of {graded} prompt x condition "
                "pairs of the target vector: the longer a reasoning, the less do unsteered ones resemble steered ones; "
                "read_A_answer_only, of unsteered reasonings, stands; smaller multipliers or more draws mend the others"
            )
    mass = columns.unsteered.get("read_mass", np.array([]))
    known = mass[np.isfinite(mass)]
    if len(known) and known.mean() < LITTLE_MASS:
        told.append(
            f"right behind the reasoning all choices together have a probability of {known.mean():.2g}: the model does "
            'not answer there at once; put a [scoring] cue there, such as cue = "\\nThe answer is ("'
        )
    return told


def _tell_controls(columns: Columns) -> list[str]:
    told = []
    for kind, key in (("random", "random_directions"), ("shuffled", "shuffled_labels")):
        n = len({c.vector for c in columns.conditions if c.kind == kind})
        if 0 < n < MIN_DIRECTIONS:
            told.append(
                f"{n} {kind} vectors: a p-value against them needs at least {MIN_DIRECTIONS}; set [controls] {key} = "
                f"{MIN_DIRECTIONS}, better 39 or 99"
            )
    return told


def _tell_skew(rows: Sequence[ReportRow]) -> list[str]:
    """Where the two kinds of interval disagree, normality is in doubt."""
    apart: dict[str, int] = {}
    known: dict[str, int] = {}
    for row in rows:
        low, high, boot = row.estimate.low, row.estimate.high, row.inference
        if row.quantity not in SWEPT or row.split != "all" or low is None or high is None or np.isnan(boot.boot_low):
            continue
        known[row.quantity] = known.get(row.quantity, 0) + 1
        distance = max(abs(boot.boot_low - low), abs(boot.boot_high - high))
        if distance > SKEW * (high - low):
            apart[row.quantity] = apart.get(row.quantity, 0) + 1
    if not apart:
        return []
    counts = "; ".join(f"{_call(name)} in {n} of {known[name]} cells" for name, n in apart.items())
    return [
        f"bootstrap-t limits differ from the t limits by more than {SKEW:.0%} of the interval's width ({counts}): the "
        "prompts' values are skewed; quote the summary's bootstrap-t limits there"
    ]


def _call(quantity: str) -> str:
    """What a quantity is called, on one line."""
    return " ".join(find_quantity(quantity).label.replace("{A}", "A").split())
