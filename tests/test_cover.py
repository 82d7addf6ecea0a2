"""Finished work that covers more than what is asked for now."""

import numpy as np

from completions_lp.work.cover import Block, join_blocks


def make_block(items, conditions, width, start):
    unsteered = start + np.arange(len(items) * width, dtype=np.float32).reshape(len(items), width)
    steered = unsteered + np.arange(1, len(conditions) + 1, dtype=np.float32)[:, None, None]
    return Block(items, conditions, {"logprob": unsteered}, {"logprob": steered, "kl": steered})


def test_blocks_that_are_wider_than_what_is_asked_for_are_cut():
    first, second = make_block(["long", "a"], ["x"], 5, 0.0), make_block(["a", "longer"], ["y"], 7, 100.0)
    whole = join_blocks([second, first], ["a"], ["x", "y"], width=3)
    np.testing.assert_array_equal(whole.unsteered["logprob"], [[5, 6, 7]])
    np.testing.assert_array_equal(whole.steered["logprob"], [[[6, 7, 8]], [[6, 7, 8]]])
    np.testing.assert_array_equal(whole.steered["kl"], [[[6, 7, 8]], [[101, 102, 103]]])
