"""The keys of a configuration that say which file a finished vector is in, and what that file leaves open."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from completions_lp.job.label import Section
from completions_lp.records import InputError

Layer = Annotated[int, Field(ge=0, lt=10_000)]
Format = Literal[
    "auto",
    "own",
    "gguf",
    "caa",
    "persona_vectors",
    "steering-vectors",
    "lm-eval",
    "refusal_direction",
    "steering-lite",
    "svec",
    "axbench",
    "gemma-scope",
    "gemma-scope-2",
    "sae-lens",
    "sparsify",
    "llama-scope",
    "qwen-scope",
    "dictionary-learning",
    "goodfire",
]


class VectorFile(Section):
    """A finished vector in a file of this package or of another tool."""

    path: str | None = None
    """A finished vector, a file or folder of this package or of another tool; then no pairs are read."""
    format: Format = "auto"
    """Whose file it is; "auto" where the file shows it."""
    convention: Literal["", "repeng", "llama.cpp"] = ""
    """How a GGUF file counts that does not say it: "repeng" (direction.L is the output of block L) or "llama.cpp"
    (direction.(L + 1) is, as its own generator writes)."""
    layer: Layer | Annotated[tuple[Layer, ...], Field(min_length=1)] | None = None
    """For a file of one direction: at the output of which block, or blocks, it is added; for one of several, which of
    them are read."""
    feature: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    """Which feature of a sparse autoencoder, or which concept of AxBench."""
    position: Annotated[int, Field(ge=-10_000, lt=0)] | None = None
    """Which token position of refusal_direction's mean_diffs.pt, from -1, the last, backwards."""

    @model_validator(mode="after")
    def _check_file(self) -> "VectorFile":
        told = {"format": "auto", "convention": "", "layer": None, "feature": None, "position": None}
        given = [name for name, value in told.items() if getattr(self, name) != value]
        if self.path is None and given:
            raise InputError(
                f"[vector] {given[0]} is of a vector's file, and no path is given: give one, or leave it out"
            )
        return self

    @property
    def layers_asked(self) -> tuple[int, ...]:
        """The layers that are asked for of the file; none for all that it has."""
        return self.layer if isinstance(self.layer, tuple) else () if self.layer is None else (self.layer,)
