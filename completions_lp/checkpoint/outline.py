"""A stand-in for a model's tokenizer, by which prompts are read to their end before the tokenizer itself is loaded."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from completions_lp.checkpoint.adapter import find_tokenizer
from completions_lp.checkpoint.files import Checkpoint, reading
from completions_lp.records import InputError

_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates", "tekken.json")
"""Files in which transformers finds chat templates, besides the tokenizer's configuration."""


class Outline:
    """Takes every text for one token, so that texts stay apart: what is wrong with a prompt's row shows all the same.

    In a chat, what is said stands for what the template makes of it.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = find_tokenizer(checkpoint)
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> SimpleNamespace:
        """The text's number, with one for a special token before it, if asked for."""
        number = self._numbers.setdefault(text, len(self._numbers) + 1)
        return SimpleNamespace(input_ids=[0, number] if add_special_tokens else [number])

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The texts of numbers."""
        texts = list(self._numbers)
        return "".join(texts[number - 1] for number in token_ids if number or not skip_special_tokens)

    @cached_property
    def chat_template(self) -> bool:
        """Whether the model has one, as far as its folder tells; of a model of the hub or a GGUF file, it may have."""
        if self._checkpoint.gguf:
            return True
        settings = self._checkpoint.read_json("tokenizer_config.json") or {}
        files = (self._checkpoint.find(file) for file in _TEMPLATES)
        return not self._checkpoint.local or bool(settings.get("chat_template")) or any(files)

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]], **_: Any) -> str:
        """What is said."""
        return "\n".join(message["content"] for message in messages)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text by the folder's tokenizer.json, special ones left out: at least so many will they be.

        0 where the folder has none that can be read: then the tokenizer itself will tell.
        """
        if self.tokenizer is None:
            return 0
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    @cached_property
    def tokenizer(self) -> Any:
        """The folder's tokenizer.json; None where it has none that can be read."""
        import tokenizers  # without transformers, and so without torch

        file = Path(self._checkpoint.name) / "tokenizer.json"
        if not self._checkpoint.local or not file.is_file():
            return None
        try:
            with reading(self._checkpoint):
                tokenizer = tokenizers.Tokenizer.from_file(str(file))
                tokenizer.no_truncation()
                tokenizer.no_padding()
                return tokenizer
        except InputError:
            return None
