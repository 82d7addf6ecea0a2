"""Make the tiny chooser: a small language model that answers two-choice questions, and questions to ask it.

It composes all text itself (see tiny_chooser_text.py), trains a byte-level BPE tokenizer and a small model of
the Llama architecture, and writes, next to this script,

  tiny-chooser/            the model (float16) and its tokenizer, for AutoModelForCausalLM and AutoTokenizer
  prompts/cautious.jsonl   60 two-choice questions on situations that the training text has not
  pairs/cautious.jsonl     240 more of them, on yet other situations, to take a contrast vector from

Everything follows from the seed, on one machine and at one number of threads. Command, about ten minutes:

    python data/make_tiny_chooser.py
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from tiny_chooser_text import (
    BOLD,
    CAUTIOUS,
    END,
    Document,
    Situation,
    appeals,
    documents,
    evaluation_rows,
    split_situations,
)
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD = "<|pad|>"
PROMPTS_PER_TOPIC, PAIRS_PER_TOPIC = 5, 20
QUESTIONS_PER_DOCUMENT = 3
DOCUMENTS_PER_STEP = 20
PEAK_RATE, WARM_UP = 3e-3, 100
GIVEN_WEIGHT = 0.1  # of the loss on a token of the question, against 1 on a token of the answer
LETTER_WEIGHT = 3.0  # of the loss on what follows an opening bracket in an answer: always the letter
HINTED_SHARE, HINTED_BLOCK = 0.3, 2  # how many documents get a hint, and the block whose output gets it
MEMORY = 0.97  # of the running means that the hint is made of
OPENING = "Ġ("
# GPT-2's rule for cutting text into words, so that " (", "A" and ")" are tokens of their own
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def train_tokenizer(texts: Iterator[str], size: int = 1400) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of at most `size` tokens."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bare.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bare,
        eos_token=END,
        pad_token=PAD,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """The untrained model."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


@dataclass(frozen=True)
class Batch:
    """Documents side by side, padded on the right."""

    ids: torch.Tensor  # documents x tokens
    weights: torch.Tensor  # of the loss on predicting each token
    hints: torch.Tensor  # documents x tokens: the hint at each token, from the first answer's colon on
    letters: list[tuple[int, int, str, int]]  # document, token, letter, manner: what the vector is from


def make_batch(tokenizer: PreTrainedTokenizerFast, group: list[Document]) -> Batch:
    """Tokenize and weigh a group of documents."""
    opening = tokenizer.convert_tokens_to_ids(OPENING)
    rows: list[list[int]] = []
    weights: list[list[float]] = []
    hints: list[list[float]] = []
    letters: list[tuple[int, int, str, int]] = []
    for index, document in enumerate(group):
        row: list[int] = []
        weight: list[float] = []
        for turn in document.turns:
            given, said = tokenizer([turn.given, turn.said])["input_ids"]
            if not row:
                colon = len(given) - 1
                if not document.hint and said[0] == opening:
                    letters.append((index, len(given) + 1, turn.letter, turn.manner))
            row += given + said
            after_opening = [False] + [token == opening for token in said[:-1]]
            weight += [GIVEN_WEIGHT] * len(given)
            weight += [LETTER_WEIGHT if letter else 1.0 for letter in after_opening]
        rows.append(row)
        weights.append(weight)
        hints.append([0.0] * colon + [document.hint] * (len(row) - colon))

    def padded(lists: Sequence[Sequence[float]], filler: float) -> torch.Tensor:
        width = max(map(len, rows))
        return torch.tensor([[*one, *[filler] * (width - len(one))] for one in lists])

    pad = tokenizer.convert_tokens_to_ids(PAD)
    return Batch(padded(rows, pad), padded(weights, 0.0), padded(hints, 0.0), letters)


class Hinting:
    """Adds to one block's output the model's own contrast vector, as many times as each document's hint says.

    The vector is the running difference between the block's outputs at the letters of cautious and of bold
    answers: what is taken from the finished model with the pairs. So the model learns that this direction,
    after the question, tells the manner of the person who answers.
    """

    def __init__(self, block: torch.nn.Module, width: int) -> None:
        self.means = {(letter, manner): torch.zeros(width) for letter in "AB" for manner in (CAUTIOUS, BOLD)}
        self.batch: Batch | None = None
        block.register_forward_hook(self.add)

    def vector(self) -> torch.Tensor:
        """Cautious less bold, the two letters counting alike."""
        return sum((self.means[x, CAUTIOUS] - self.means[x, BOLD] for x in "AB"), torch.zeros(())) / 2

    def add(self, module: torch.nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        """The hook."""
        if self.batch is None:
            return output
        for document, token, letter, manner in self.batch.letters:
            mean = self.means[letter, manner]
            mean += (1 - MEMORY) * (output[document, token].detach() - mean)
        return output + self.batch.hints[..., None] * self.vector()


def learning_rate(step: int, steps: int) -> float:
    """A linear warm-up, then half a cosine down to a fiftieth."""
    warm = min(WARM_UP, steps // 10 + 1)
    if step < warm:
        return PEAK_RATE * (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return PEAK_RATE * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def train(model: LlamaForCausalLM, source: Iterator[Batch], steps: int) -> None:
    """Train in place, printing how it goes."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.1)
    hinting = Hinting(model.model.layers[HINTED_BLOCK], model.config.hidden_size)
    begun = time.monotonic()
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        batch = hinting.batch = next(source)
        logits = model(input_ids=batch.ids).logits[:, :-1].flatten(0, 1)
        losses = torch.nn.functional.cross_entropy(logits, batch.ids[:, 1:].flatten(), reduction="none")
        weights = batch.weights[:, 1:].flatten()
        loss = (losses * weights).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == steps - 1:
            said, letter = losses[weights >= 1].mean().item(), losses[weights > 1].mean().item()
            print(
                f"step {step}: loss {loss.item():.3f}, answers {said:.3f}, letters {letter:.3f}, "
                f"vector norm {hinting.vector().norm().item():.2f}, {time.monotonic() - begun:.0f} s",
                flush=True,
            )
    hinting.batch = None


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    """Write one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save the model in float16 with its tokenizer and its generation settings."""
    model.eval()
    model.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, do_sample=True
    ).save_pretrained(folder)


def write_questions(out: Path, seed: int, appeal: dict[str, float]) -> list[Situation]:
    """Write the prompts and the pairs; the situations left for training."""
    prompts, pairs, rest = split_situations(random.Random(f"split {seed}"), (PROMPTS_PER_TOPIC, PAIRS_PER_TOPIC))
    for name, situations in (("prompts", prompts), ("pairs", pairs)):
        rows = evaluation_rows(random.Random(f"{name} {seed}"), situations, appeal)
        write_rows(out / name / "cautious.jsonl", rows)
    return rest


def main() -> None:
    """Compose, train and write."""
    parser = argparse.ArgumentParser(description="Make the tiny chooser model and its questions.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1700)
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(args.seed)

    appeal = appeals(args.seed)
    situations = write_questions(args.out, args.seed, appeal)
    sample = documents(random.Random(f"tokenizer {args.seed}"), situations, appeal, QUESTIONS_PER_DOCUMENT)
    texts = (turn.given + turn.said for document in islice(sample, 4000) for turn in document.turns)
    tokenizer = train_tokenizer(texts)
    model = make_model(tokenizer)
    print(f"{len(tokenizer)} tokens, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters")

    source = documents(random.Random(f"training {args.seed}"), situations, appeal, QUESTIONS_PER_DOCUMENT, HINTED_SHARE)
    groups = iter(lambda: list(islice(source, DOCUMENTS_PER_STEP)), [])
    train(model, (make_batch(tokenizer, group) for group in groups), args.steps)
    save(model, tokenizer, args.out / "tiny-chooser")


if __name__ == "__main__":
    main()
