"""The immutable records that flow through the package, and the checks that make them valid.

Frozen dataclasses on the CPU, of read-only numpy arrays with axes ``condition, prompt, completion, token``. Log probs
are in nats. NaN marks what is undefined or masked, never zero; a missing interval is ``None``.
"""

from completions_lp.records.base import (
    PARTIAL,
    InputError,
    Kind,
    NotFinite,
    Operation,
    OutOfRoom,
    Positions,
    Rule,
    Through,
    Tokenizer,
    is_plain,
    show_sign,
)
from completions_lp.records.choices import Choices
from completions_lp.records.completions import Completions, Draw, Sampling
from completions_lp.records.doses import Dose, Unit
from completions_lp.records.labelling import LabelFunction, Labelling, compile_pattern, name_function
from completions_lp.records.measures import Measures, Profile
from completions_lp.records.operations import Edit, find_edit
from completions_lp.records.prompts import ContrastPair, Prompt, name_outcomes, pair_twins, pick_letters
from completions_lp.records.readings import Readings
from completions_lp.records.report import (
    Best,
    Estimate,
    Inference,
    OffTargetRow,
    ProfileRow,
    Report,
    ReportRow,
    RivalRow,
    SeedValue,
    Slope,
    Swap,
    VectorRow,
)
from completions_lp.records.scores import Increases, Scores, TokenIncreases, TokenScores
from completions_lp.records.sources import describe_cause, is_failing, read_bytes, read_text
from completions_lp.records.steering import BASELINE, Condition, Span, SteeringVector, VectorQuality, make_rival

__all__ = [
    "BASELINE", "PARTIAL", "Best", "Choices", "Completions", "Condition", "ContrastPair", "Dose", "Draw", "Edit",
    "Estimate", "Increases", "Inference", "InputError", "Kind", "LabelFunction", "Labelling", "Measures",
    "NotFinite", "OffTargetRow", "Operation", "OutOfRoom", "Positions", "Profile", "ProfileRow", "Prompt",
    "Readings", "Report", "ReportRow", "RivalRow", "Rule", "Sampling", "Scores", "SeedValue", "Slope", "Span",
    "SteeringVector", "Swap", "Through", "TokenIncreases", "TokenScores", "Tokenizer", "Unit", "VectorQuality",
    "VectorRow",
    "compile_pattern", "describe_cause", "find_edit", "is_failing", "is_plain", "make_rival", "name_function",
    "name_outcomes", "pair_twins", "pick_letters", "read_bytes", "read_text", "show_sign",
]  # fmt: skip
