"""A checkpoint's files and the shape of its network, found and checked without torch, before anything slow begins."""

from completions_lp.checkpoint.adapter import Adapter, find_tokenizer, name_base, read_adapter
from completions_lp.checkpoint.files import (
    Checkpoint,
    count_tensors,
    locate,
    read_settings,
    reading,
)
from completions_lp.checkpoint.gguf import read_header
from completions_lp.checkpoint.kinds import check_files
from completions_lp.checkpoint.outline import Outline
from completions_lp.checkpoint.place import PRECISIONS, DeviceMap, check_map, check_place
from completions_lp.checkpoint.quantized import name_quantization
from completions_lp.checkpoint.ranks import OutOfStep, Rank, check_ranks, find_rank
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
    "Adapter",
    "Checkpoint",
    "DeviceMap",
    "OutOfStep",
    "Outline",
    "Rank",
    "Shape",
    "Sized",
    "check_conditions",
    "check_files",
    "check_layers",
    "check_length",
    "check_map",
    "check_place",
    "check_ranks",
    "count_tensors",
    "find_rank",
    "find_tokenizer",
    "locate",
    "name_base",
    "name_quantization",
    "read_adapter",
    "read_header",
    "read_settings",
    "read_shape",
    "reading",
]
