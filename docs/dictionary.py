"""Write docs/dictionary.md: every table of a run directory, every column, its unit and what it means.

    python docs/dictionary.py

Quantities come from ``quantities``, columns that have a schema from the store. A test runs a small job and fails
where a column is written that is not here, or the page is not what this script writes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from columns import (
    COMMON,
    CONDITION,
    DOSE,
    ESTIMATE,
    INCREASE,
    LIST,
    MEASURE,
    NUMBER,
    QUESTION,
    READING,
    TEXT,
    UNIT,
    WHOLE,
    Column,
)
from passages import JSON, OPENING, WORDS, WORK

from completions_lp.quantities import BROKEN, GROUPS, ODD, POOLED, QUANTITIES, TRUST, UNITS, find_quantity
from completions_lp.records import Increases, Measures, Prompt
from completions_lp.store import DOSES, OFF_TARGET, PROFILE, RIVALS, SEEDS, SLOPES, STAGES, SUMMARY, SWAPS, VECTORS
from completions_lp.store.validation import ESTIMATED

PAGE = Path(__file__).parent / "dictionary.md"


@dataclass(frozen=True)
class Table:
    """A file of the run directory, and its columns."""

    file: str
    row: str
    about: str
    columns: Mapping[str, Column]


COUNTS = ("n", "n_unique", "n_A")
NOT_BY_PROMPT = (
    BROKEN,
    *(f"share_{trust}" for trust in TRUST),
    *(name for name in QUANTITIES if name.startswith("below_zero")),
)


def describe_tables() -> tuple[Table, ...]:
    """Every table, in the order in which a run writes them."""
    return (*_describe_texts(), *_describe_scores(), *_describe_report())


def _describe_texts() -> tuple[Table, ...]:
    said = _common("count", "token_ids", "text")
    answered = _common("ended", "label", "answer_index")
    return (
        Table(
            "questions.parquet",
            "prompt",
            "The prompts as asked, so that any stage can be run again alone.",
            {**_common("prompt_id"), **{f.name: QUESTION[f.name] for f in fields(Prompt) if f.name != "id"}},
        ),
        Table(
            "completions.parquet",
            "distinct completion",
            "What the unsteered model said.",
            {
                **_common("prompt_id", "cluster", "completion_id"),
                **said,
                "pieces": Column(LIST, "The part of the text that each token wrote."),
                **answered,
                "n_reasoning": READING["n_reasoning"],
                "logprob": Column(NUMBER, "Unsteered log prob of the whole completion.", "nats"),
                "token_logprob": Column(LIST, "Unsteered log prob of each token, from the pass that drew it.", "nats"),
                "sampler_logprob": Column(
                    NUMBER, "Log prob under what was drawn from, after temperature, top-k and top-p.", "nats"
                ),
                "token_sampler_logprob": Column(
                    LIST, "The same of each token; missing where it is `token_logprob`: plain sampling.", "nats"
                ),
                "seed_counts": Column(
                    LIST, "`count` by seed, in the order of `[sampling] seeds`; missing with one seed.", "draws"
                ),
            },
        ),
        Table(
            "steered.parquet",
            "distinct drawn completion × condition",
            "What the steered model itself said, where `sampling.top_up` drew it.",
            {
                **_common("prompt_id", *CONDITION),
                **said,
                **answered,
                "n_reasoning": READING["n_reasoning"],
                "logprob": Column(NUMBER, "Log prob under the steered model that drew it.", "nats"),
            },
        ),
    )


def _describe_scores() -> tuple[Table, ...]:
    nats = "nats"
    return (
        Table(
            "scores.parquet",
            "distinct completion × condition",
            "The log-prob increase of every completion, whole and in parts.",
            {
                **_common("prompt_id", "completion_id", *CONDITION),
                "logprob": Column(
                    NUMBER, "Steered log prob of the whole completion; NaN where not all of it is scored.", nats
                ),
                **{part: Column(NUMBER, INCREASE[part], nats) for part in Increases.PARTS},
                "n_scored": Column(WHOLE, "Its first tokens that are scored, `[scoring] through`.", "tokens"),
                "baseline": Column(NUMBER, "Unsteered log prob of the tokens that are scored.", nats),
            },
        ),
        Table(
            "readings.parquet",
            "distinct completion × condition",
            "What would be answered at the end of each completion's reasoning, where that is read (`[scoring] "
            "readings`); the unsteered model's rows come first, with kind `baseline`.",
            {
                **_common("prompt_id", "completion_id", *CONDITION),
                **{name: column for name, column in READING.items() if name != "n_reasoning"},
            },
        ),
        Table(
            "measures.parquet",
            "prompt × condition",
            "What single tokens tell about each prompt: P(A), bounds, trust, divergences. What steering does not touch "
            "is repeated for every condition.",
            {
                **_common("prompt_id", *CONDITION),
                **{name: MEASURE.get(name) or _quantity(name) for name in (*Measures.UNSTEERED, *Measures.STEERED)},
                **_common("trust"),
            },
        ),
        Table(
            "seed_measures.parquet",
            "seed × prompt × condition",
            "Only with several `[sampling] seeds`: `measures.parquet` from each seed's own draws, without those of the "
            "steered model.",
            {
                **_common("prompt_id", *CONDITION),
                **{name: MEASURE.get(name) or _quantity(name) for name in (*Measures.UNSTEERED, *Measures.STEERED)},
                **_common("trust"),
                "seed": ESTIMATE["seed"],
            },
        ),
        Table(
            "doses.parquet",
            "condition that steers",
            "How strongly each condition steers, as a sample of `[scoring] dose_prompts` prompts has it; also as "
            "`doses.csv`. Doses that no multiplier reaches are in it, too, and say why.",
            {name: DOSE.get(name) or COMMON.get(name) or ESTIMATE[name] for name in DOSES.names},
        ),
        Table(
            "profile.parquet",
            "condition × place",
            "The mean increase of the tokens by their place relative to the answer's, over completions with the "
            "target, mean over prompts.",
            _schema(PROFILE.names),
        ),
        Table(
            "tokens.parquet",
            "token × condition",
            "Single tokens, of a few conditions; of all with `--tokens`.",
            {
                **_common("prompt_id", "completion_id"),
                "token": Column(WHOLE, "0-based place in the completion."),
                "token_id": Column(WHOLE, "The token."),
                **_common(*CONDITION),
                "logprob": Column(NUMBER, "Steered log prob of the token.", nats),
                "increase": Column(NUMBER, "Steered minus unsteered.", nats),
                "kl": Column(NUMBER, "KL(unsteered ‖ steered) of the next-token distributions.", nats),
                "kl_reverse": Column(NUMBER, "KL(steered ‖ unsteered) of them.", nats),
                "entropy": Column(NUMBER, "Entropy of the unsteered next-token distribution.", nats),
                "answer_logprob": Column(NUMBER, "Steered log prob that this token completes the target.", nats),
                "answer_baseline": Column(NUMBER, "The same, unsteered.", nats),
                "other_logprob": Column(NUMBER, "Steered log prob that it completes the other answer.", nats),
                "other_baseline": Column(NUMBER, "The same, unsteered.", nats),
            },
        ),
        Table(
            "choices.parquet",
            "prompt × condition",
            "The two-choice read-out at the first answer position, of all choices, each in all its spellings. The "
            "first rows are the unsteered model. In tables of earlier versions there are the two answers alone, "
            "each as one token.",
            {
                **_common("prompt_id", *CONDITION),
                "letter_1": Column(TEXT, "The target answer, or the matching one where the target is not on offer."),
                "letter_2": Column(TEXT, "The answer that it is compared with."),
                "logit_diff": Column(NUMBER, "Log prob of `letter_1` minus that of `letter_2`.", nats),
                "logprob_A": Column(NUMBER, "Log prob of `letter_1`.", nats),
                "logprob_B": Column(NUMBER, "Log prob of `letter_2`.", nats),
                "mass": Column(NUMBER, "Probability of all choices together.", "probability"),
                "logprob_A_whole": Column(NUMBER, "Log prob of `letter_1` whole, from where both part.", nats),
                "logprob_B_whole": Column(NUMBER, "The same of `letter_2`.", nats),
                "letters": Column(LIST, "All choices, in the order of the lists."),
                "logprobs": Column(LIST, "Log prob of each; NaN where it cannot be told from another.", nats),
                "logprobs_whole": Column(LIST, "Log prob of all tokens of each, from where all part.", nats),
                "p_choices": Column(LIST, "Probability of each, given that one of them is said.", "probability"),
            },
        ),
        Table(
            "validation.parquet",
            "prompt × checked condition",
            "From `plan --validate`: direct draws of the steered model beside the estimates.",
            {
                **_common("prompt_id", "cluster", *CONDITION),
                "n": Column(WHOLE, "Direct draws.", "draws"),
                "n_A": Column(WHOLE, "Those that gave the target.", "draws"),
                "share": Column(NUMBER, "n_A / n.", "probability"),
                "low": Column(NUMBER, "Lower limit of its interval.", "probability"),
                "high": Column(NUMBER, "Upper limit.", "probability"),
                **{name: _quantity(name) for name in ESTIMATED},
                **_common("trust"),
            },
        ),
    )


def _describe_report() -> tuple[Table, ...]:
    return (
        Table(
            "prompts.parquet",
            "prompt × condition",
            "Every per-prompt number.",
            {
                **_common("prompt_id", "cluster", *CONDITION),
                **{name: _quantity(name) for name in QUANTITIES if name not in NOT_BY_PROMPT},
                **_common("trust"),
            },
        ),
        Table(
            "summary.parquet",
            "condition × quantity × weighting",
            "The numbers of the paper; also as `summary.csv`.",
            _schema(SUMMARY.names),
        ),
        Table(
            "slopes.parquet",
            "layer × quantity",
            "Effect per unit of multiplier; also as `slopes.csv`.",
            _schema(SLOPES.names),
        ),
        Table(
            "swaps.parquet",
            "condition × quantity × part",
            "Only with `[prompts] swap`: what of an effect follows the behaviour and what the letter (numbers.md §2i). "
            "Also as `swaps.csv`. Here `n_dropped` counts pairs.",
            _schema(SWAPS.names),
        ),
        Table(
            "seeds.parquet",
            "condition × quantity × seed",
            "Only with several `[sampling] seeds`: every mean over prompts from one seed's draws alone. Also as "
            "`seeds.csv`. A value is missing where draws of the steered model, which are of no seed, have joined.",
            _schema(SEEDS.names),
        ),
        Table(
            "rivals.parquet",
            "rival × cell of the vector × quantity × split",
            "Only with `[[rival]]`: the vector less each rival, prompt by prompt. Also as `rivals.csv`. `value`, its "
            "limits, `se` and `df` are of the difference; all three means are over prompts on which both have a value.",
            _schema(RIVALS.names),
        ),
        Table(
            "vectors.parquet",
            "vector × vector it is compared with × quantity",
            "Only with several vectors: each in its own best cell, and every later one less every earlier one, prompt "
            "by prompt. Also as `vectors.csv`. `value` and its limits are of the vector itself, over the prompts on "
            "which both have a value; `split` is `report` where half of the clusters chose all best cells.",
            _schema(VECTORS.names),
        ),
        Table(
            "off_target.parquet",
            "set × cell of the vector × quantity",
            "Only with `[[off_target]]`: what the same vector does to prompts that it is not about, beside its effect "
            "on the run's own. Also as `off_target.csv`. Each set's own run lies in `off_target/NAME`.",
            _schema(OFF_TARGET.names),
        ),
    )


def describe_units() -> tuple[Table, ...]:
    """The tables of finished work, by the kind of unit."""
    whose = {"item": UNIT["item"], **_common("prompt_id")}
    return (
        Table(
            "units/draws",
            "prompt × distinct completion",
            "Draws of one model, unsteered or under one condition.",
            {
                **whose,
                "samples": UNIT["samples"],
                **_common("token_ids"),
                "token_logprob": UNIT["token_logprob"],
                **_common("ended"),
                "token_sampler_logprob": UNIT["token_sampler_logprob"],
            },
        ),
        Table(
            "units/choices",
            "condition × prompt",
            "The two-choice read-out. The unsteered model's rows are the first.",
            {**whose, **_common(*CONDITION), "logprob": UNIT["answers"]},
        ),
        Table(
            "units/scores",
            "condition × completion",
            "What was read at the tokens of completions. The unsteered model's rows are the first. A list that the "
            "unsteered model has not (`kl`) or steered ones have not (`entropy`) is missing in their rows.",
            {
                **whose,
                **_common(*CONDITION),
                **{name: UNIT[name] for name in ("logprob", "entropy", "answer", "other", "kl", "kl_reverse")},
            },
        ),
    )


def _common(*names: str) -> dict[str, Column]:
    return {name: COMMON[name] for name in names}


def _schema(names: Sequence[str]) -> dict[str, Column]:
    return {name: COMMON.get(name) or ESTIMATE[name] for name in names}


def _quantity(name: str) -> Column:
    quantity = QUANTITIES[name]
    return Column(WHOLE if name in COUNTS else NUMBER, quantity.meaning, quantity.unit)


def write_page() -> str:
    """The page as Markdown."""
    lines = [OPENING, "| stage | writes |", "|---|---|"]
    lines += [f"| `{stage}` | {', '.join(f'`{file}`' for file in files)} |" for stage, files in STAGES.items()]
    lines += ["", JSON]
    for table in describe_tables():
        lines += _list_columns(table, "##")
    lines += ["", WORK]
    for table in describe_units():
        lines += _list_columns(table, "###")
    lines += ["", *_list_quantities()]
    return "\n".join(lines) + "\n"


def _list_columns(table: Table, sign: str) -> list[str]:
    lines = ["", f"{sign} {table.file}", "", f"One row per {table.row}. {table.about}", ""]
    lines += ["| column | kind | unit | meaning |", "|---|---|---|---|"]
    return lines + [f"| `{name}` | {c.kind} | {c.unit} | {_cell(c.meaning)} |" for name, c in table.columns.items()]


def _list_quantities() -> list[str]:
    lines = ["## Quantities", "", WORDS, "", "Units: " + ", ".join(f"`{unit}`" for unit in UNITS) + "."]
    for group in GROUPS:
        chosen = [quantity for quantity in QUANTITIES.values() if quantity.group == group]
        chosen += [odd for odd in (find_quantity(f"{name}_odd") for name in ODD) if odd.group == group]
        lines += ["", f"### {group}", "", "| name | unit | meaning |", "|---|---|---|"]
        lines += [f"| `{q.name}` | {q.unit} | {_cell(q.meaning)}{_pooled(q.name)} |" for q in chosen]
    return lines


def _pooled(name: str) -> str:
    return " Also `micro`." if name in POOLED else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    print(PAGE)
