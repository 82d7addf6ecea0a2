"""The text of each token."""

import numpy as np
import pytest

from completions_lp.sample.pieces import Cutter


def decode(tokenizer, ids):
    return tokenizer.decode(list(ids), skip_special_tokens=True)


@pytest.mark.parametrize("seed", range(5))
def test_pieces_make_up_the_text_one_per_token(tokenizer, seed):
    ids = np.random.default_rng(seed).integers(0, 320, size=12).tolist()  # bytes that spell no character, too
    text = decode(tokenizer, ids)
    pieces = Cutter(tokenizer).cut(ids, text)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text


def test_a_character_of_several_bytes_belongs_to_the_token_that_completes_it(tokenizer):
    ids = tokenizer("a é中 b", add_special_tokens=False).input_ids
    pieces = Cutter(tokenizer).cut(ids, decode(tokenizer, ids))
    assert "".join(pieces) == "a é中 b"
    assert {"é", "中"} <= {piece.strip() for piece in pieces}
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_special_token_has_an_empty_piece(tokenizer):
    ids = [*tokenizer(" I choose", add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    pieces = Cutter(tokenizer).cut(ids, decode(tokenizer, ids))
    assert pieces[-1] == ""
    assert "".join(pieces) == " I choose"


def test_a_tokenizer_that_writes_a_token_differently_inside_a_longer_text_is_followed():
    class Spaces:
        def __call__(self, text, *, add_special_tokens=True):
            raise NotImplementedError

        def decode(self, token_ids, *, skip_special_tokens=False):
            return "".join(" ab"[i] for i in token_ids).strip().replace("a b", "ab")  # as some clean up spaces

    ids = [1, 0, 2, 1]
    pieces = Cutter(Spaces()).cut(ids, "aba")
    assert len(pieces) == 4
    assert "".join(pieces) == "aba"
    assert pieces[0] == "a"
