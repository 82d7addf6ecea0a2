"""Checkpoints as they come: a folder or a repository of safetensors, a GGUF file, a LoRA adapter."""

from completions_lp.checkpoint.adapter import read_adapter
from completions_lp.checkpoint.files import Checkpoint, check_folder, read_settings
from completions_lp.checkpoint.gguf import read_header
from completions_lp.checkpoint.quantized import check_packages


def check_files(checkpoint: Checkpoint) -> list[str]:
    """Check the files that a model is made of, without reading any weights; the names of its safetensors files.

    Of an adapter on a local model, those of that model too.

    Raises:
        InputError: Code or a pickle would be needed, files are missing, broken, elsewhere or of another model, or a
            package that reading them takes is not installed.
    """
    if checkpoint.gguf:
        read_header(checkpoint)
        return []
    adapter = read_adapter(checkpoint)
    if adapter is not None:
        return check_files(adapter.base) if adapter.base.local else []
    files = check_folder(checkpoint)
    check_packages(checkpoint, read_settings(checkpoint) or {})
    return files
