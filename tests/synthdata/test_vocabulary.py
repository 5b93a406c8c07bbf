"""Closed vocabularies: text and tokens are two spellings of one thing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthdata.vocabulary import BOS, PAD, Vocabulary, numbered

VOCABULARY = Vocabulary((*numbered("e", 3), "+"))


def test_specials_come_first() -> None:
    assert VOCABULARY.symbols == ("<pad>", "<bos>", "e0", "e1", "e2", "+")
    assert len(VOCABULARY) == 6
    assert (VOCABULARY.token("<pad>"), VOCABULARY.token("<bos>"), VOCABULARY.token("e0")) == (PAD, BOS, 2)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 5)))
def test_round_trip(tokens: list[int]) -> None:
    assert VOCABULARY.encode(VOCABULARY.decode(tokens)) == tokens


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a", "b", "a"), "'a' occurs twice"),
        (("<bos>",), "'<bos>' occurs twice"),
        (("a b",), "'a b' must be non-empty and free of white space"),
        (("",), "'' must be non-empty"),
    ],
)
def test_bad_symbols_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vocabulary(words)


def test_unknown_symbol_is_named() -> None:
    with pytest.raises(ValueError, match="symbol 'e3' is not in this vocabulary of 6 symbols"):
        VOCABULARY.encode("e0 e3")
