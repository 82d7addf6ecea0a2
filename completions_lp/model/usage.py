"""What went through a network, counted: by a model, by a worker, by a run."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

Recall = Literal["cache", "tokens"]
RECALLS: tuple[Recall, ...] = ("cache", "tokens")
"""How a prompt is remembered for what follows it: by keys and values, or by its tokens, which go through again."""

COUNTED = ("tokens", "passes", "sent", "received")
"""What a ``Usage`` counts."""


@dataclass
class Usage:
    """What went through the network so far."""

    tokens: int = 0
    """Rows times tokens, padding included."""
    passes: int = 0
    sent: int = 0
    """Bytes that went to a model server; 0 without one."""
    received: int = 0
    """And that came from it."""
    engine: str = ""
    """The way it went: by shared trees or plain rows."""
    recall: Recall = "cache"
    """How prompts are remembered; ``check_anatomy`` finds it out."""

    @classmethod
    def of(cls, counts: Mapping[str, int | float]) -> "Usage":
        """One that has counted this, by name; nothing of what is not there."""
        usage = cls()
        for name in COUNTED:
            setattr(usage, name, int(counts.get(name, 0)))
        return usage

    @property
    def counts(self) -> dict[str, int]:
        """What was counted, by name; bytes where there are any."""
        found = {name: getattr(self, name) for name in COUNTED}
        return {name: n for name, n in found.items() if n or name in ("tokens", "passes")}

    def since(self, before: "Usage") -> "Usage":
        """What has been added to it."""
        return replace(self, **{name: getattr(self, name) - getattr(before, name) for name in COUNTED})

    def enter(self, other: "Usage") -> None:
        """Add what somebody else has counted."""
        for name in COUNTED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.engine = other.engine or self.engine

    def count(self, ids: torch.Tensor, variants: int = 1) -> None:
        """One pass of these ids, repeated under so many variants."""
        self.tokens += ids.numel() * variants
        self.passes += 1
