"""The [model] and [run] sections of a configuration: which network, where it runs, and what a run may use."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from completions_lp.job.label import Section
from completions_lp.records import InputError

_PACKAGE = Path(__file__).resolve().parent.parent
DATA = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent / "data"
"""The embedded model, prompts and pairs: inside an installed package, or beside it in a checkout."""
_SERVER_DECIDES = {
    **{"dtype": "auto", "device": "auto", "residual": "float32"},
    **{"device_map": "", "offload_folder": None, "tp_size": 1},
}


class ModelSection(Section):
    """Which model, and where it runs."""

    name: str = str(DATA / "tiny-chooser")
    """A hub name, a local folder (of a LoRA adapter, too) or a .gguf file."""
    revision: str | None = None
    """A branch, tag or commit of the hub."""
    dtype: str = "auto"
    """auto (what is measured to be fast and to round little), float32, bfloat16, float16 or float64."""
    residual: Literal["float32", "weights"] = "float32"
    """float32: with half-precision weights, only products are in half precision; weights: everything is, and noisy."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda, cuda:N or mps."""
    device_map: str | dict[str, str | int] = ""
    """Where a model goes that is larger than one device: auto, balanced or sequential over all GPUs, then memory, then
    disk; or a table of parts and devices, {"model.layers" = 0, "lm_head" = "cpu"}. Empty: all of it on device."""
    offload_folder: str | None = None
    """Where weights are written that lie on disk and cannot be read from the model's own files."""
    tp_size: Annotated[int, Field(ge=1, le=1024)] = 1
    """Processes that share every block of the model (tensor parallelism), all started by torchrun."""
    remote: bool | Annotated[str, Field(pattern=r"^https?://")] = False
    """true: the model runs on NDIF, or on the server that NDIF_HOST names; or the address of one,
    "http://localhost:5001". Its weights never come here; precision and device are the server's."""

    @model_validator(mode="after")
    def _check_remote(self) -> "ModelSection":
        given = [name for name, value in _SERVER_DECIDES.items() if getattr(self, name) != value]
        if self.remote and given:
            raise InputError(f"[model] {given[0]} is the server's to decide where remote is given; leave it out")
        return self


class RunSection(Section):
    """What a run may use."""

    memory_budget: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """GiB that a pass may take; a quarter of all memory by default."""
    store: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """Where finished units go that runs and machines share: a folder, or s3://BUCKET/PLACE, gs://BUCKET/PLACE, any URL
    that fsspec knows; by default the run's own directory. Nothing is ever removed from there."""
    workers: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Processes that do the work, each with a model of its own, by Ray; with 1 this process does it all."""
    address: str = ""
    """A Ray cluster to join: "auto", or HOST:PORT; "" makes one on this machine for as long as the run takes."""
    gpus_per_worker: Annotated[int, Field(ge=1, le=1_000)] = 1
    """GPUs of each worker, where there are any; cores are shared among the workers of a machine."""
