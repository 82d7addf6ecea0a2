from .job.audit import audit_labels
from .job.config import Config, load_config
from .job.results import load
from .job.stages import run
from .job.validation import validate_cells
from .job.vector_files import load_vector
from .model import load_model, wrap_model
from .plan.forecast import plan_run
from .prompts import load_pairs, load_prompts
from .records import (
    Completions,
    Condition,
    InputError,
    Labelling,
    Prompt,
    Report,
    Sampling,
    Scores,
    SteeringVector,
)
from .report import summarize
from .report.comparison import compare_reports
from .sample.draws import sample_completions
from .score.choices import read_choices
from .score.parts import score_completions
from .show.figures.agreement import Agreement
from .show.figures.convergence import Batch, Convergence
from .show.figures.costs import Costs
from .show.figures.damage import Damage
from .show.figures.diagnostics import Diagnostics
from .show.figures.distributions import Distributions
from .show.figures.doses import DoseResponse
from .show.figures.heatmap import Heatmap
from .show.figures.layers import LayerSweep
from .show.figures.odds import Odds
from .show.figures.off_target import OffTarget
from .show.figures.probabilities import Probabilities
from .show.figures.profile import TokenProfile
from .show.figures.promotion import Promotion
from .show.figures.prompts import PromptEffects
from .show.figures.quality import Quality
from .show.figures.reasoning import Reasoning
from .show.figures.rivals import Rivals
from .show.figures.steerability import Steerability
from .show.text import format_latex
from .show.text.labels import LabelAudit
from .steer.conditions import make_conditions
from .steer.vectors import extract_vector
from .store import read_validation

__version__: str

__all__ = [
    "Agreement",
    "Batch",
    "Completions",
    "Condition",
    "Config",
    "Convergence",
    "Costs",
    "Damage",
    "Diagnostics",
    "Distributions",
    "DoseResponse",
    "Heatmap",
    "InputError",
    "LabelAudit",
    "Labelling",
    "LayerSweep",
    "Odds",
    "OffTarget",
    "Probabilities",
    "Promotion",
    "Prompt",
    "PromptEffects",
    "Quality",
    "Reasoning",
    "Report",
    "Rivals",
    "Sampling",
    "Scores",
    "Steerability",
    "SteeringVector",
    "TokenProfile",
    "audit_labels",
    "compare_reports",
    "extract_vector",
    "format_latex",
    "load",
    "load_config",
    "load_model",
    "load_pairs",
    "load_prompts",
    "load_vector",
    "make_conditions",
    "plan_run",
    "read_choices",
    "read_validation",
    "run",
    "sample_completions",
    "score_completions",
    "summarize",
    "validate_cells",
    "wrap_model",
]
