from .job.config import Config, load_config
from .job.results import load, save
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
from .show.figures import plot_layers
from .steer.conditions import make_conditions
from .steer.vectors import extract_vector

__version__: str

__all__ = [
    "Completions",
    "Condition",
    "Config",
    "InputError",
    "Labelling",
    "Prompt",
    "Report",
    "Sampling",
    "Scores",
    "SteeringVector",
    "compare_reports",
    "extract_vector",
    "load",
    "load_config",
    "load_model",
    "load_pairs",
    "load_prompts",
    "make_conditions",
    "plan_run",
    "plot_layers",
    "read_choices",
    "run",
    "sample_completions",
    "save",
    "score_completions",
    "summarize",
    "validate_cells",
    "wrap_model",
]
