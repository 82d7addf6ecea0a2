"""Score in plain rows, layer by layer, unsteered beside steered: where the tree is not exact, and as its slow twin."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from completions_lp.model.footprint import row_bytes
from completions_lp.model.network import score_next
from completions_lp.model.reading import Reader, stack_answers
from completions_lp.model.steering import Variants, group_conditions
from completions_lp.model.task import Pass, Reduced, Task
from completions_lp.model.transfer import pad_tokens


def score_rows(task: Task) -> Iterator[Pass]:
    """Score all sequences under all conditions; those of neighbouring prompts, of similar length, go together."""
    groups = group_conditions(task.conditions) or [[]]
    past = np.array([len(prompt.token_ids) for prompt in task.prompts])[task.of_prompt]
    lengths = np.array([len(ids) for ids in task.said])
    order = np.lexsort((lengths, task.of_prompt, -past)).tolist()
    width = int(lengths.max(initial=1))
    row = row_bytes(task.model, tokens=width, logits=width, past=int(past.max(initial=0)))

    def score(rows: Sequence[int]) -> list[Pass]:
        batch = _Rows(task, rows)
        return [(rows, some, found) for group in groups for some, found in batch.score(group, row * len(rows))]

    each = row * (1 + max(map(len, groups)))
    for _, passes in task.room.share(order, score, each=each, most=task.batch_size, name=task.describe):
        yield from passes


class _Rows:
    """Some sequences on the device, with the prompts that they follow."""

    def __init__(self, task: Task, rows: Sequence[int]) -> None:
        model = task.model
        used, of_prompt = np.unique(task.of_prompt[rows], return_inverse=True)
        prompts = [task.prompts[i].token_ids for i in used]
        said = [task.said[row] for row in rows]
        self.task = task
        self.variants = Variants(model, prompts, torch.from_numpy(of_prompt))
        targets, _ = pad_tokens(said, model.device)
        last = torch.tensor([prompts[i][-1] for i in of_prompt], device=model.device)
        self.tokens = torch.cat([last[:, None], targets[:, :-1]], 1)
        n, width = self.tokens.shape
        answers = None
        if task.watch is not None:
            watch = [task.watch[i] for i in task.of_prompt[rows]]
            prefixes = [[tuple(ids[:t]) for t in range(len(ids))] for ids in said]
            answers = stack_answers(watch, prefixes, width, model.device)
        nodes = torch.arange(width, device=model.device).repeat(n, 1)
        self.reader = Reader(n, nodes, targets, answers, divergences=task.divergences)

    def score(self, group: Sequence[int], size: int) -> Iterator[tuple[Sequence[int], Reduced]]:
        """The conditions of a layer in as few passes as memory allows, each of which takes about ``size`` bytes."""
        if group:
            yield from self.task.room.share(group, self._run, each=size, fixed=size, most=len(group))
        else:
            yield [], self._run([])

    def _run(self, indices: Sequence[int]) -> Reduced:
        """One pass: without steering, and under some conditions of a layer."""
        variants = 1 + len(indices)
        prefix, steering = self.variants.steer(self.task.vectors, [self.task.conditions[i] for i in indices])
        found = score_next(self.task.model, prefix, self.tokens.repeat(variants, 1), self.reader, steering=steering)
        n = len(self.tokens)
        arrays = {name: v.view(len(v) // n, n, *v.shape[1:]).numpy() for name, v in found.items()}
        return Reduced(**{name: v[0] if name == "entropy" else v for name, v in arrays.items()})
