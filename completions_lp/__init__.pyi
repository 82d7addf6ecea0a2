from .job.config import Config, load_config
from .job.results import load
from .job.stages import run
from .job.validation import validate_cells
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
from .show.figures import (
    Agreement,
    Batch,
    Convergence,
    Damage,
    Diagnostics,
    Distributions,
    DoseResponse,
    Heatmap,
    LayerSweep,
    Probabilities,
    Promotion,
    PromptEffects,
    Steerability,
    TokenProfile,
)
from .show.text import format_latex
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
    "Damage",
    "Diagnostics",
    "Distributions",
    "DoseResponse",
    "Heatmap",
    "InputError",
    "Labelling",
    "LayerSweep",
    "Probabilities",
    "Promotion",
    "Prompt",
    "PromptEffects",
    "Report",
    "Sampling",
    "Scores",
    "Steerability",
    "SteeringVector",
    "TokenProfile",
    "compare_reports",
    "extract_vector",
    "format_latex",
    "load",
    "load_config",
    "load_model",
    "load_pairs",
    "load_prompts",
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
