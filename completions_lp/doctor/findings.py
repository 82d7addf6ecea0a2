"""What a check says: how far off something is, how far it may be, and what to do where it is further."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

COUNTED = ("prompts", "missing")
"""Units of which there are whole numbers."""

Verdict = Literal["pass", "note", "FAIL"]

STOP = "do not use these numbers"
ADVICE = {
    "one BOS in each prompt": "Prompts do not begin with exactly one BOS: models were trained on one, and with two or "
    "none they say something else; leave it to the tokenizer, and out of the template and the questions",
    "each answer has tokens of its own that spell it": "P(A) and the logit diff are read from these tokens: choose "
    "answers that the tokenizer tells apart, or a prefix after which each is one token",
    "end of sequence is known": "Nothing says which token ends a text, so completions run on to max_new_tokens, into "
    "text that is none: name eos_token_id in the checkpoint's generation_config.json",
    "vectors are read at hidden_states[layer + 1]": "Vectors are made from another place than they are added to, by a "
    "layer or a token: layer L means what block L puts out, which is hidden_states[L + 1]; " + STOP,
    "the vector is added once, at its layer": "What the block puts out does not change by multiplier x vector at each "
    "token that is steered: it is added twice or scaled, at another layer, or not from the prompt's last token on, "
    f"most likely by a hook of other code on this model; {STOP}",
    "no layer below is touched": "The residual stream changes below the layer of the vector, so something is added at "
    f"another layer than the condition says (layers count from 0); {STOP}",
    "no token before is touched": "The residual stream changes at tokens before the first that is to be steered: "
    f"positions are off by one, or by padding; {STOP}",
    "residual streams = those of a full forward": "At some layer and token the residual stream is not that of one full "
    f"pass over the text, so what is computed is not the model of the checkpoint; {STOP}",
    "shared prefix = full forward": "Log probs are not those of one full pass over each text, unsteered or with the "
    f"vector added at its layer from the prompt's last token on: keys, values, masks or positions are wrong; {STOP}",
    "trees = rows": "Completions that share their beginnings in one tree get other log probs than each in a row of its "
    f"own: a token sees what it must not see (a mask), or stands at a wrong place (its position); {STOP}",
    "batched = single": "A text's log probs depend on what is computed beside it, as where padding is attended to or "
    f"positions count it: with another batch the same run gives other numbers; {STOP}",
    "multiplier 0 = baseline": "Adding 0 x vector changes the numbers, so something else than the vector acts on "
    f"steered rows: random numbers in a layer, experts with a capacity, or a hook of other code; {STOP}",
    "A, B, A leaves nothing behind": "The same conditions give other numbers after others were scored in between: "
    "something of one condition stays for the next (a hook, a cache, a vector changed in place); " + STOP,
    "sampled log probs = scored ones": "What tokens had when they were drawn is not what they have when they are "
    f"scored: completions are not of the model that is scored, or were tokenised anew in between; {STOP}",
    "steered draws = steered scores": "While the steered model speaks, the vector does not act as where text is "
    "scored (its first token, or all after it, unsteered): validation and top-up draws are of another model; " + STOP,
    "probabilities over the vocabulary sum to 1": "The exponentials of the log probs of all tokens do not sum to 1, so "
    f"they are no log probs: the output head is read in another form than the model has it; {STOP}",
    "answers read out = full forward": "The log probs of the answers are not those of full passes, summed over the ids "
    "that spell them: the two-choice read-out (P(A) at once, logit diff, mass) is wrong; " + STOP,
    "rounding of an increase": "Rounding alone moves a completion's increase by this much: take [model] dtype = "
    '"float32", or residual = "float32", where effects are of this size',
}
"""By check, one sentence: what is wrong where it fails, and what to do."""
SLOW = "This model takes plain rows, which are right, and slower than trees: nothing is to be done but to wait longer"
BROKEN = (
    "Trees are wrong also on the embedded model, where they are right by all tests: the installation is at fault, not "
    "the model; install the versions of torch, transformers and nnsight that requirements.lock names"
)


@dataclass(frozen=True)
class Finding:
    """One check: the largest deviation seen, and what is allowed."""

    name: str
    """One of ``ADVICE``."""
    value: float
    limit: float
    unit: str = "nats"
    seen: str = ""
    """What was looked at, or the worst place, in a few words."""
    is_fault: bool = True
    """Whether numbers are wrong where it is off; else it is a note: they are right, but slow or coarse."""
    is_shown: bool = False
    """Whether what was looked at is told even where all is well."""
    told: str = ""
    """What to do in place of the usual."""

    @property
    def passed(self) -> bool:
        """Whether the deviation is a number within the limit."""
        return bool(self.value <= self.limit)

    @property
    def verdict(self) -> Verdict:
        """In a word."""
        return "pass" if self.passed else "FAIL" if self.is_fault else "note"

    @property
    def advice(self) -> str:
        """One sentence: what is wrong where this fails, and what to do."""
        return self.told or ADVICE[self.name]

    def describe(self) -> str:
        """What failed, by how much, and what to do, on one line."""
        found, allowed = self.show(self.value, 2), self.show(self.limit, 1)
        return f"{self.name}: {found} {self.unit} (limit {allowed}); {self.seen}; {self.advice}"

    def show(self, value: float, digits: int) -> str:
        """A number of this finding's unit: what is counted as it is, anything else with so many digits."""
        return f"{value:.0f}" if self.unit in COUNTED else f"{value:.{digits - 1}e}"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All that was found of one model with one vector on some prompts."""

    findings: tuple[Finding, ...]
    spellings: Mapping[str, int]
    """How answers are spelled, in words, each with the number of prompts on which they are spelled so."""
    patient: Sequence[str] = ()
    """What was examined, a line each."""

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings that say that numbers are wrong."""
        return tuple(finding for finding in self.findings if finding.verdict == "FAIL")
