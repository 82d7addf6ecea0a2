"""The steps of one prompt's completions: at which tokens the answer was still to come, and with which weight.

``A`` is the target answer, K the window; a text is open until its first answer, its end, or the window's. Where the
first answer does not decide, as a later one may undo it, a text is open until its end or the window's.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import logsumexp

from completions_lp.records import InputError

Counts = Int[np.ndarray, " completion"] | Float[np.ndarray, " completion"]
Drawn = Int[np.ndarray, " sampler"] | Float[np.ndarray, " sampler"]
Mask = Bool[np.ndarray, "completion token"]
Unsteered = Float[np.ndarray, "completion token"]
ByCondition = Float[np.ndarray, " condition"]
ByStep = Float[np.ndarray, "condition token"]
ByText = Float[np.ndarray, "condition completion"]
ByToken = Float[np.ndarray, "condition completion token"]
BySampler = Float[np.ndarray, "sampler completion token"]
"""The arrays of one prompt, by their axes."""


@dataclass(frozen=True, eq=False)
class Steps:
    """One prompt's distinct completions, token by token through their first answer; ``token`` runs over the window."""

    counts: Counts
    """Draws of each completion. Real numbers are welcome: with the exact probabilities, estimates are exact."""
    open: Mask
    """Whether this token was drawn with no answer and no end before it."""
    target: Bool[np.ndarray, " completion"]
    """Whether the text gave A: the last open token completes it, or with that token the label is settled."""
    other: Bool[np.ndarray, " completion"]
    """The same of B, the answer that A is compared with."""
    first: Mask
    """At open tokens: whether no earlier row has the same tokens before this one; each visited prefix counts once."""
    without: Bool[np.ndarray, " completion"]
    """Texts that came to a stop without A, each distinct one once: they rule A out, whatever would follow."""
    reached: Bool[np.ndarray, " completion"]
    """Texts that gave A, each one that is distinct through A once."""

    @property
    def draws(self) -> float:
        """Draws behind the rows."""
        return float(self.counts.sum())

    @property
    def without_target(self) -> Mask:
        """Where A has not been completed before this token; a text that stopped otherwise stays, with hazard 0."""
        return np.asarray(self.open | ~self.target[:, None])

    @property
    def without_either(self) -> Mask:
        """Where neither A nor B has been completed before this token."""
        return np.asarray(self.open | ~(self.target | self.other)[:, None])

    def sum_before(
        self, values: Float[np.ndarray, "*lead completion token"]
    ) -> Float[np.ndarray, "*lead completion token"]:
        """Sum of the values at the open tokens before each token; constant once the text has stopped. float64."""
        sums = np.zeros(values.shape)
        np.cumsum(np.where(self.open, values, 0.0)[..., :-1], axis=-1, out=sums[..., 1:])
        return sums

    def sum_open(self, values: Float[np.ndarray, "*lead completion token"]) -> Float[np.ndarray, "*lead completion"]:
        """Sum of the values at all open tokens, the one that completes an answer included. float64."""
        return np.asarray(np.where(self.open, values, 0.0).sum(-1, dtype=np.float64))

    def read_hazard(
        self, log_hazard: Float[np.ndarray, "*lead completion token"]
    ) -> Float[np.ndarray, "*lead completion token"]:
        """Probability that the next token completes the answer; 0 once the text has stopped."""
        return np.where(self.open, np.exp(np.minimum(log_hazard, 0.0)), 0.0)


def follow_steps(
    token_ids: Int[np.ndarray, "completion token"],
    *,
    lengths: Int[np.ndarray, " completion"],
    counts: Counts,
    ended: Bool[np.ndarray, " completion"],
    answer_index: Int[np.ndarray, " completion"],
    target: Bool[np.ndarray, " completion"],
    other: Bool[np.ndarray, " completion"],
    first_passage: bool = True,
) -> Steps:
    """Follow the completions of one prompt through the window (numbers.md P1).

    Args:
        token_ids: The first K tokens of each distinct completion, padded with anything past its end.
        lengths: Tokens of each completion; may exceed K.
        counts: Draws of each completion.
        ended: Whether the last token is an end-of-sequence token.
        answer_index: 0-based index of the token that completes the first answer, or -1.
        target: Whether that answer is A.
        other: Whether that answer is B. An answer that is neither ends the text, too.
        first_passage: Whether the first answer decides. Else all of the window does, and texts are open through its
            end: only estimates from whole texts (``estimate_share``, ``bound_by_texts``) hold.

    Raises:
        InputError: An answer lies past the window or past its text, or an answer has no position.
    """
    width = token_ids.shape[1]
    inside = np.minimum(lengths, width)
    answered = answer_index >= 0
    if bool((answer_index >= inside).any()) or bool(((target | other) & ~answered).any()):
        raise InputError(
            f"an answer must lie within its completion and within the window of {width} tokens: give the token ids of "
            "the whole window (Labelling.within), and answer_index as Completions has it"
        )
    stop = np.where(answered & first_passage, answer_index + 1, inside)
    opened = np.arange(width) < stop[:, None]
    first, last = np.zeros(opened.shape, dtype=bool), np.zeros(len(lengths), dtype=np.int64)
    node = np.zeros(len(lengths), dtype=np.int64)  # names the prefix before token t, among those of equal length
    span = int(token_ids.max(initial=0)) + 1
    for t in range(width):
        rows = np.flatnonzero(opened[:, t])
        first[rows[np.unique(node[rows], return_index=True)[1]], t] = True
        # One number for the prefix and the token after it.
        node[rows] = np.unique(node[rows] * span + token_ids[rows, t], return_inverse=True)[1]
        last[rows] = node[rows]
    settled = (answered & first_passage) | (inside == width) | ended
    without, reached = np.zeros((2, len(lengths)), dtype=bool)
    for distinct, rows in ((without, np.flatnonzero(settled & ~target)), (reached, np.flatnonzero(settled & target))):
        texts = stop[rows] * len(lengths) + last[rows]
        distinct[rows[np.unique(texts, return_index=True)[1]]] = True
    return Steps(counts, opened, target, other, first, without, reached)


def pool_log_weight(steps: Steps, logprob: ByToken, samplers: BySampler, draws: Drawn) -> ByToken:
    """Log weight of the tokens before each token, for completions pooled from several samplers.

    The balance heuristic: log q(x_<t) − log Σ_j (n_j/n) s_j(x_<t), for log probs q under the conditions and s_j under
    what drew n_j of the texts, in nats. A mean with these weights is unbiased at every step, so the survival estimator
    holds. A weight is at most n/n_q where q was drawn n_q times; with the unsteered model alone it is that of plain
    importance sampling. Source: numbers.md §13; Veach and Guibas 1995; Shirts and Chodera 2008 (MBAR).

    Raises:
        InputError: The draws of the samplers do not add up to the counts.
    """
    return np.asarray(steps.sum_before(logprob) - _mix(steps, steps.sum_before(samplers), draws))


def weigh_texts(steps: Steps, logprob: ByToken, samplers: BySampler, draws: Drawn) -> ByText:
    """Log weight of each text through its last open token, its answer included; otherwise as ``pool_log_weight``."""
    return np.asarray(steps.sum_open(logprob) - _mix(steps, steps.sum_open(samplers), draws))


def _mix(steps: Steps, sums: Float[np.ndarray, "sampler *text"], draws: Drawn) -> Float[np.ndarray, "*text"]:
    """Log prob under the mixture of the samplers, each with the share of the draws that it made."""
    if not np.isclose(draws.sum(), steps.draws):
        raise InputError(
            f"{draws.sum():g} draws by sampler, but the completions have {steps.draws:g}: count every draw of the pool"
        )
    drawn = draws > 0
    share = np.log(draws[drawn] / draws.sum()).reshape(-1, *(1,) * (sums.ndim - 1))
    return np.asarray(logsumexp(sums[drawn] + share, axis=0))
