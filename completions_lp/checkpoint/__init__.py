"""A checkpoint's files and the shape of its network, found and checked without torch, before anything slow begins."""

from completions_lp.checkpoint.files import (
    Checkpoint,
    check_files,
    count_tensors,
    locate,
    read_settings,
    reading,
)
from completions_lp.checkpoint.outline import Outline
from completions_lp.checkpoint.place import PRECISIONS, check_place
from completions_lp.checkpoint.quantized import check_packages, name_quantization
from completions_lp.checkpoint.shape import (
    UNLIMITED,
    Shape,
    Sized,
    check_conditions,
    check_layers,
    check_length,
    read_shape,
)

__all__ = [
    "PRECISIONS",
    "UNLIMITED",
    "Checkpoint",
    "Outline",
    "Shape",
    "Sized",
    "check_conditions",
    "check_files",
    "check_layers",
    "check_length",
    "check_packages",
    "check_place",
    "count_tensors",
    "locate",
    "name_quantization",
    "read_settings",
    "read_shape",
    "reading",
]
