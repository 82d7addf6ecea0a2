"""What the columns hold that are no quantities of ``quantities``: names, conditions, intervals, single tokens."""

from dataclasses import dataclass

TEXT, WHOLE, NUMBER, FLAG, LIST = "text", "whole number", "number", "true or false", "list"


@dataclass(frozen=True)
class Column:
    """What a column holds."""

    kind: str
    meaning: str
    unit: str = ""


COMMON = {
    "prompt_id": Column(TEXT, "The prompt's name: its own `id`, or a hash of its text."),
    "cluster": Column(TEXT, "What is independent; the prompt itself, with its twin, where the file has no `cluster`."),
    "completion_id": Column(WHOLE, "Counts the distinct completions of a prompt from 0."),
    "vector": Column(TEXT, "Name of the vector, or of a rival; empty for the unsteered model."),
    "kind": Column(
        TEXT,
        "`target`, `further` (a further vector, compared with it), `negated`, `random`, `shuffled`, `orthogonal`, "
        "`rounding` (tells what rounding does), `rival` (another prompt or another model), or `baseline` (unsteered).",
    ),
    "layer": Column(WHOLE, "0-based block to whose output the vector is added; −1 for the unsteered model and rivals."),
    "multiplier": Column(NUMBER, "The vector is added this many times; 1 for a rival, which is there as a whole."),
    "positions": Column(
        TEXT,
        "`completion`: from the last prompt token on; `all`: the prompt too; `prompt`: the prompt alone; `first:N`: N "
        "tokens from the last of the prompt on.",
    ),
    "operation": Column(TEXT, "`add`, `ablate` or `clamp`: what is done along the vector, see *Operations*."),
    "layers": Column(TEXT, "All blocks that are steered at once, such as `10,11,12`; `layer` is the lowest."),
    "dose": Column(NUMBER, "What was asked for, in the unit of the sweep; the multiplier where that is it."),
    "trust": Column(TEXT, "`certified`, `green` or `red`; empty where the target is not on offer."),
    "label": Column(TEXT, "The answer that the label rule finds within the window; missing where none was given."),
    "answer_index": Column(WHOLE, "0-based index in `token_ids` of the token that completes the answer, or −1."),
    "count": Column(WHOLE, "How often exactly these tokens were drawn; the weight of the row.", "draws"),
    "token_ids": Column(LIST, "The exact ids; a generated end-of-sequence token is the last."),
    "text": Column(TEXT, "Decoded, for people only."),
    "ended": Column(FLAG, "Whether an end-of-sequence token was generated."),
}
CONDITION = ("vector", "kind", "layer", "multiplier", "positions", "operation", "layers", "dose")

ESTIMATE = {
    "quantity": Column(TEXT, "Which number, see *Quantities* below; its unit is in `unit`."),
    "weighting": Column(
        TEXT,
        "`macro`: mean over prompts; `micro`: pooled over completions; `marginal`: from two means over prompts.",
    ),
    "value": Column(NUMBER, "The estimate."),
    "low": Column(NUMBER, "Lower limit of the interval; missing below 6 clusters."),
    "high": Column(NUMBER, "Upper limit."),
    "level": Column(NUMBER, "Coverage of the interval, 0.95.", "share"),
    "unit": Column(TEXT, "Of value and limits."),
    "method": Column(TEXT, "How the interval was made, such as `t`, `cluster t`, `bootstrap-t`."),
    "n_prompts": Column(WHOLE, "Prompts behind the number.", "prompts"),
    "n_dropped": Column(WHOLE, "Prompts on which it is undefined.", "prompts"),
    "n_clusters": Column(WHOLE, "Independent units behind the number."),
    "se": Column(NUMBER, "Standard error over clusters, in the same unit."),
    "df": Column(NUMBER, "Degrees of freedom of the interval."),
    "relative_dose": Column(
        NUMBER,
        "|multiplier × vector| over the mean norm of the unsteered residual stream, at the lowest layer and the "
        "positions that are steered; missing where nothing is added.",
    ),
    "kl_per_token": Column(NUMBER, "KL(unsteered ‖ steered) per token of this condition, nats, mean over prompts."),
    "split": Column(
        TEXT, "`all`: all prompts; `report`: the best cell, on the half of the clusters that did not choose it."
    ),
    "fixed_se": Column(NUMBER, "Standard error for just these prompts: sampling noise alone."),
    "boot_low": Column(NUMBER, "Lower bootstrap-t limit."),
    "boot_high": Column(NUMBER, "Upper bootstrap-t limit."),
    "band_low": Column(NUMBER, "Lower limit of the simultaneous band over the cells of the sweep (max-T)."),
    "band_high": Column(NUMBER, "Its upper limit."),
    "p_t": Column(NUMBER, "Two-sided p-value of this cell alone, Student's t over clusters."),
    "p_signflip": Column(NUMBER, "Two-sided p-value of this cell alone, signs of clusters flipped."),
    "p_holm": Column(NUMBER, "`p_t` after Holm, over the cells of the sweep."),
    "p_bh": Column(NUMBER, "`p_t` after Benjamini and Hochberg, over the cells of the sweep."),
    "p_max_t": Column(NUMBER, "p-value adjusted for all cells of the sweep by max-T."),
    "p_rank": Column(NUMBER, "One-sided rank among the random directions."),
    "p_predictive": Column(NUMBER, "One-sided t of one new direction against the random directions."),
    "rounding": Column(
        NUMBER,
        "How far rounding may move the number: the larger end, without sign, of its interval in the mean of a "
        "small direction's two signs.",
    ),
    "random_low": Column(NUMBER, "Lower end of the central 95 % of the random directions."),
    "random_high": Column(NUMBER, "Its upper end."),
    "random_mean": Column(NUMBER, "Mean of the random directions."),
    "random_sd": Column(NUMBER, "Their standard deviation."),
    "p_rank_shuffled": Column(NUMBER, "One-sided rank among the vectors from shuffled labels."),
    "selection_frequency": Column(NUMBER, "How often this cell is the best when clusters are resampled.", "share"),
    "seed_sd": Column(
        NUMBER, "Standard deviation between seeds, each over all prompts, in the same unit; missing with one seed."
    ),
    "n_seeds": Column(NUMBER, "Seeds behind it, those by which the number is defined.", "seeds"),
    "seed": Column(WHOLE, "The seed, one of `[sampling] seeds`: the row is of its own draws alone."),
    "offset": Column(WHOLE, "Place relative to the answer's token: 0 is that token, −1 the one before it.", "tokens"),
    "n_completions": Column(WHOLE, "Draws that have a token there.", "draws"),
    "below_zero": Column(NUMBER, "Prompts truly steered the wrong way, sampling noise shrunken away.", "share"),
    "set": Column(TEXT, "Name of the off-target set."),
    "effect_quantity": Column(TEXT, "By which the cell's effect on the run's own prompts is told."),
    **{
        f"effect_{end}": Column(NUMBER, f"The cell's effect on the run's own prompts{words}")
        for end, words in (("value", "."), ("low", ": lower limit."), ("high", ": upper limit."))
    },
    "rival": Column(TEXT, "Name of the rival that the vector is compared with."),
    **{
        f"{name}_{end}": Column(NUMBER, f"{what}{words}")
        for name, what in (("steered", "The quantity under the vector"), ("rival", "The same under the rival"))
        for end, words in (("value", "."), ("low", ": lower limit."), ("high", ": upper limit."))
    },
    **{
        f"against_{name}": Column(kind, f"Of the other vector's best cell; missing where a vector stands alone{more}.")
        for name, kind, more in (
            ("vector", TEXT, ""),
            ("layer", WHOLE, ""),
            ("multiplier", NUMBER, ""),
            ("operation", TEXT, ""),
            ("layers", TEXT, ": all layers of the cell"),
            ("dose", NUMBER, ""),
        )
    },
    **{
        f"{name}_{end}": Column(NUMBER, f"{what}{words}")
        for name, what in (
            ("reference", "The same quantity under the other vector, in its best cell"),
            ("difference", "This vector less the other, prompt by prompt"),
        )
        for end, words in (("value", "."), ("low", ": lower limit."), ("high", ": upper limit."))
    },
    "difference_se": Column(NUMBER, "Standard error of the difference over clusters, in the same unit."),
    "difference_df": Column(NUMBER, "Degrees of freedom of the difference's interval."),
    "part": Column(
        TEXT,
        "`behaviour`: with the matching answer, whatever its letter; `letter`: with the first of the two letters, "
        "whatever it says; `common`: with both answers alike.",
    ),
    "n_pairs": Column(WHOLE, "Questions behind the number, each asked in both orders.", "pairs"),
    "multipliers": Column(LIST, "Through which the line was fitted, 0 among them. Not in the CSV."),
}
DOSE = {
    "dose": Column(NUMBER, "What was asked for, in `unit`; negative for the opposite sign."),
    "unit": Column(TEXT, "`vector`, `residual` or `kl`: `[scoring] unit`."),
    "multiplier": Column(NUMBER, "What the vector is multiplied with for it; missing where nothing reaches the dose."),
    "kl_per_token": Column(
        NUMBER,
        "With unit `kl`: KL per token reached on the sample, nats; where the dose is not reached, the nearest that "
        "was.",
    ),
    "kl_se": Column(NUMBER, "Standard error of it over the clusters of the sample."),
    "n_prompts": Column(WHOLE, "Prompts of the sample."),
    "reason": Column(TEXT, "Why the cell is missing; empty where it is not."),
}
QUESTION = {
    "text": Column(TEXT, "The prompt as the model was asked it."),
    "token_ids": Column(LIST, "Its token ids."),
    "letters": Column(LIST, "The answers on offer."),
    "matching": Column(TEXT, "The answer that goes with the behaviour."),
    "not_matching": Column(TEXT, "The answer that it is compared with."),
    "cluster": COMMON["cluster"],
    "answer_format": Column(TEXT, "How the file writes an answer after the prompt."),
    "twin": Column(
        TEXT, "The `prompt_id` of the prompt of which this one has the choices exchanged; empty for others."
    ),
}
INCREASE = {
    "increase": "Steered minus unsteered log prob, over all tokens; NaN where not all are scored.",
    "increase_to_answer": "The same through the answer's token; without an answer through the end or the window.",
    "before_answer": "Its part before the answer's token; NaN without an answer.",
    "at_answer": "Its part at the answer's token; NaN without an answer.",
    "after_answer": "Its part after the answer's token; NaN without an answer, or where not all tokens are scored.",
    "in_reasoning": "Its part over the tokens that are reasoning; NaN where not all of these are scored.",
}
READING = {
    "n_reasoning": Column(
        WHOLE,
        "Its first tokens that are reasoning: through a thinking part that is marked, else before the tokens that "
        "spell the answer, and without an answer all.",
        "tokens",
    ),
    "n_read": Column(
        WHOLE, "Tokens of the completion behind which the answers are read, and the cue, if any.", "tokens"
    ),
    "n_settled": Column(WHOLE, "Its first tokens, which settle where that is: no later one bears on it.", "tokens"),
    "logprob_settled": Column(NUMBER, "Log prob of the latter.", "nats"),
    "letters": Column(LIST, "The answers on offer."),
    "logprobs": Column(
        LIST,
        "Log prob of each answer, in the order of `letters` and in any spelling; NaN where it cannot be told from "
        "another.",
        "nats",
    ),
    "tenths": Column(
        LIST, "Log-prob increase in each tenth of the tokens before; missing in the unsteered model's rows.", "nats"
    ),
    "mass": Column(NUMBER, "Probability of all answers together.", "probability"),
}
MEASURE = {
    "p_A_answer_only": Column(NUMBER, "P(A) with only the answer's token steered.", "probability"),
    "p_A_reasoning_only": Column(NUMBER, "P(A) with only the text before the answer steered.", "probability"),
}
UNIT = {
    "item": Column(TEXT, "Key of the prompt or the completion: a hash of its tokens, its prompt and its answers."),
    "samples": Column(LIST, "Numbers of the draws, from 0, that gave just these tokens."),
    "token_logprob": Column(LIST, "Log prob of each token, from the pass that drew it.", "nats"),
    "token_sampler_logprob": Column(
        LIST, "The same under what was drawn from; missing where it is `token_logprob`: plain sampling.", "nats"
    ),
    "answers": Column(
        LIST,
        "Two numbers for each of the target answer (or the matching one), the other, and all choices in order: log "
        "prob in any spelling, and of the whole answer.",
        "nats",
    ),
    "logprob": Column(
        LIST,
        "Log prob of each token; of a place where answers are read (`[scoring] readings`), of each answer.",
        "nats",
    ),
    "entropy": Column(LIST, "Entropy of the unsteered next-token distribution at each token.", "nats"),
    "answer": Column(LIST, "Log prob that this token completes the target.", "nats"),
    "other": Column(LIST, "Log prob that it completes the other answer.", "nats"),
    "kl": Column(LIST, "KL(unsteered ‖ steered) of the next-token distributions.", "nats"),
    "kl_reverse": Column(LIST, "KL(steered ‖ unsteered) of them.", "nats"),
}
