"""completions_lp: how much does a steering vector change the log probs of what a model would have said anyway?

The functions below are the stages of a run, in order; each is also a command. They are imported when they are first
used, so that ``import completions_lp`` needs no torch.
"""

import importlib
import sys
from typing import Any

_HOMES = {
    "Agreement": "show.figures",
    "Batch": "show.figures",
    "Condition": "records",
    "Convergence": "show.figures",
    "Damage": "show.figures",
    "Diagnostics": "show.figures",
    "Distributions": "show.figures",
    "DoseResponse": "show.figures",
    "Heatmap": "show.figures",
    "InputError": "records",
    "Labelling": "records",
    "LayerSweep": "show.figures",
    "Probabilities": "show.figures",
    "Promotion": "show.figures",
    "Prompt": "records",
    "PromptEffects": "show.figures",
    "Report": "records",
    "Sampling": "records",
    "Steerability": "show.figures",
    "SteeringVector": "records",
    "TokenProfile": "show.figures",
    "extract_vector": "steer.vectors",
    "format_latex": "show.text",
    "load": "run.results",
    "load_config": "run.config",
    "load_model": "model",
    "load_pairs": "prompts",
    "load_prompts": "prompts",
    "make_conditions": "steer.conditions",
    "read_choices": "score.choices",
    "read_validation": "store",
    "sample_completions": "sample.draws",
    "score_completions": "score.parts",
    "summarize": "report",
    "wrap_model": "model",
}
__all__ = sorted(_HOMES)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"completions_lp.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'completions_lp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "IPython" in sys.modules:  # a notebook shows reports, completions and scores as they should be seen
    importlib.import_module("completions_lp.show.notebook").register()
