"""Text of tokens that arrive one by one."""

from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.vocabulary import Vocabulary

TOKENS = {
    "word": ["<eos>", "<unk>", "a", "the", "é", "<"],
    "char": ["<eos>", "<unk>", "a", " ", "é", "\t"],
}
IDS = st.lists(st.integers(0, 5))


@given(st.sampled_from(["word", "char"]), IDS)
def test_words_and_characters_are_complete_at_once(name: str, ids: list[int]) -> None:
    tokenizer = make_tokenizer(name, Vocabulary(TOKENS[name], [1] * 6))
    pieces = list(tokenizer.decode_stream(iter(ids)))
    expected = [tokenizer.decode(np.array(ids[: n + 1])) for n in range(len(ids))]
    assert list(accumulate(pieces)) == expected


@given(st.binary() | st.text().map(str.encode))
def test_bytes_give_the_text_of_all_bytes(content: bytes) -> None:
    tokenizer = make_tokenizer("byte")
    pieces = list(tokenizer.decode_stream(content))
    assert "".join(pieces) == tokenizer.decode(np.frombuffer(content, dtype=np.uint8))


def test_bytes_of_a_character_are_held_until_it_is_complete() -> None:
    pieces = list(make_tokenizer("byte").decode_stream("aé\u8a9e".encode() + b"\xff\xe2"))
    assert pieces == ["a", "", "é", "", "", "\u8a9e", "\udcff", "", "\udce2"]
