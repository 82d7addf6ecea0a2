"""TokenScores -> where the gain is: the mean increase of tokens by their place relative to the answer's own."""

import numpy as np

from completions_lp.records import Profile, ProfileRow, TokenScores
from completions_lp.score.sums import find_broken
from completions_lp.stats import average_by_group, mean_intervals


def profile_tokens(scores: TokenScores, *, target: str = "matching") -> Profile:
    """Per prompt, the mean increase at each offset from the answer's token, over the completions that gave the target.

    Means over draws, in nats; NaN where no completion of a prompt has a token at that offset, and for a prompt that
    does not offer the target (a letter, or ``"matching"`` for each prompt's own). NaN at every place, too, where a
    token's log prob in any of a prompt's completions is no finite number. Where completions are not scored through
    their end, the profile ends with the answer: behind it, means would be over those that answer early.
    """
    completions = scores.completions
    chosen = np.flatnonzero(completions.hits(target))
    before, after = completions.window - 1, completions.sampling.max_new_tokens - 1
    after = after if scores.through == "end" else 0
    offsets = np.arange(-before, after + 1)
    token = completions.answer_index[chosen, None] + offsets
    there = (token >= 0) & (token < completions.lengths[chosen, None])
    token = np.clip(token, 0, completions.token_ids.shape[1] - 1)
    increase = scores.increase[:, chosen[:, None], token].astype(np.float64)
    counts, index, size = completions.counts[chosen], completions.prompt_index[chosen], len(completions.prompts)
    means = np.stack(
        [average_by_group(increase[:, :, k], counts, index, size, where=there[:, k]) for k in range(len(offsets))], -1
    )
    broken, row = np.nonzero(find_broken(scores.baseline, scores.logprob, scores.mask))
    means[broken, completions.prompt_index[row]] = np.nan
    n = [np.bincount(index, weights=counts * there[:, k], minlength=size) for k in range(len(offsets))]
    return Profile(tuple(completions.prompts), scores.conditions, offsets, means, np.stack(n, -1).astype(np.int64))


def summarize_profile(profile: Profile, *, level: float = 0.95) -> tuple[ProfileRow, ...]:
    """Means over prompts with t intervals over clusters, by condition; offsets that no text has are left out.

    Under a condition where tokens that are there have no increase (log probs that are no finite numbers) all is NaN.
    """
    clusters = np.unique([prompt.cluster for prompt in profile.prompts], return_inverse=True)[1]
    total = profile.n.sum(0)
    used = np.flatnonzero(total)
    increase = profile.increase[:, :, used].copy()
    increase[(np.isnan(increase) & (profile.n[:, used] > 0)).any((1, 2))] = np.nan
    cells = np.swapaxes(increase, 1, 2).reshape(-1, len(profile.prompts))
    estimates = mean_intervals(cells, clusters, unit="nats", level=level)
    places = [(condition, k) for condition in profile.conditions for k in used]
    return tuple(
        ProfileRow(condition, int(profile.offsets[k]), estimate, int(total[k]))
        for (condition, k), estimate in zip(places, estimates, strict=True)
    )
