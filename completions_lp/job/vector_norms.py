"""How long the residual stream of a model is, beside which a vector is long or short."""

from completions_lp.job.config import Config
from completions_lp.job.inputs import Inputs
from completions_lp.job.vector_files import check_fit
from completions_lp.model.network import read_norms
from completions_lp.records import SteeringVector

TEXTS = 32
"""Prompts whose last token is read, at most."""


def measure_norms(config: Config, vector: SteeringVector) -> tuple[dict[int, float], str]:
    """By layer, the mean norm of the residual stream at the last token of prompts; and of which, in words.

    Raises:
        InputError: The model or the prompts are wrong, or the vector does not fit the model.
    """
    inputs = Inputs(config)
    model, prompts = inputs.model, inputs.prompts[:TEXTS]
    check_fit(vector, model)
    layers = list(vector.directions)
    texts = [prompt.token_ids for prompt in prompts]
    norms = read_norms(model, texts, [len(ids) - 1 for ids in texts], layers).mean(-1)
    told = f"the mean norm of the residual stream of {model.name} at the last token of {len(texts)} prompts"
    return dict(zip(layers, norms.tolist(), strict=True)), told
