"""Words and bytes of a text: counted by hand, as tokens of words, by line, and in blocks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptblm.corpus import source as source_module
from ptblm.corpus.reader import read_text
from ptblm.corpus.source import bytes_source
from ptblm.corpus.text_size import TextSize, line_size, text_size
from ptblm.errors import DataError
from tests.corpus.helpers import trained_tokenizer

TEXTS = st.text(st.sampled_from("ab\u00e9\u8a9e\U0001f600 \n\t\x0b\x1c\x85\u00a0\u3000<>"))


@pytest.mark.parametrize(
    ("content", "words", "size"),
    [
        (b"", 0, 0),
        (b"\n", 1, 1),
        (b"the cat\n", 3, 8),
        (b" the  cat \n\n\tsat", 6, 16),
        (b"\xff \xc3\xa9\n", 3, 5),
    ],
)
def test_words_include_line_ends(content: bytes, words: int, size: int) -> None:
    assert text_size(bytes_source("text", content)) == TextSize(words, size)


@settings(deadline=None)
@given(TEXTS, st.sampled_from([1, 2, 3, 7]))
def test_size_is_the_sum_of_lines_in_any_blocks(text: str, block_size: int) -> None:
    lines = sum(map(line_size, text.split("\n")), TextSize())
    source = bytes_source("text", f"{text}\n".encode())
    assert text_size(source) == lines
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "BLOCK_SIZE", block_size)
        assert text_size(source) == lines


@settings(deadline=None)
@given(TEXTS)
def test_tokens_of_words_are_words_and_line_ends(text: str) -> None:
    source = bytes_source("text", text.encode())
    try:
        tokenizer = trained_tokenizer(source, "word")
    except DataError:
        return
    encoded = read_text(source, tokenizer)
    assert text_size(source) == encoded.size == TextSize(len(encoded.ids), len(text.encode()))
