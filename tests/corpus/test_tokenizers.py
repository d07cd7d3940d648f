"""Tokenizers: text to ids and back without loss, and the Penn Treebank's character files."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.reader import read_text
from ptblm.corpus.source import bytes_source
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.vocabulary import EOS, UNK
from ptblm.errors import DataError
from tests.corpus.helpers import data_config, tokenizer_of, trained_tokenizer

UNICODE = st.text(
    st.characters(codec="utf-8") | st.sampled_from("\n\r\t \ufeff\u2028\x00<>"), min_size=1
)
WORDS = st.text(st.sampled_from("ab\u00e9\u8a9e\U0001f600\x00<>"), min_size=1)


@given(st.lists(st.lists(WORDS), min_size=1).filter(any), st.booleans())
def test_words_decode_to_lines_with_single_spaces(lines: list[list[str]], plain: bool) -> None:
    expected = "".join(" ".join(line) + "\n" for line in lines)
    text = expected if plain else expected.replace(" ", " \t ").replace("\n", " \n ")
    source = bytes_source("text", text.rstrip(" ").encode())
    tokenizer = trained_tokenizer(source, "word", closed=True)
    assert tokenizer.decode(read_text(source, tokenizer).ids) == expected


@given(UNICODE.filter(lambda text: text != "\ufeff"))
def test_characters_decode_to_the_exact_text(text: str) -> None:
    source = bytes_source("text", text.encode())
    tokenizer = trained_tokenizer(source, "char")
    encoded = read_text(source, tokenizer)
    # A byte order mark is skipped, and the last line always ends.
    expected = text.removeprefix("\ufeff")
    expected += "" if expected.endswith("\n") else "\n"
    assert tokenizer.decode(encoded.ids) == expected
    assert encoded.unknown == 0
    assert encoded.ids.dtype == np.uint8
    assert len(tokenizer.vocabulary) == len(set(expected) | {"\n"}) + 1


@given(st.binary(min_size=1))
def test_bytes_decode_to_the_exact_bytes(content: bytes) -> None:
    source = bytes_source("file", content)
    tokenizer = trained_tokenizer(source, "byte")
    encoded = read_text(source, tokenizer)
    assert bytes(encoded.ids.tolist()) == content
    assert tokenizer.decode(encoded.ids).encode("utf-8", "surrogateescape") == content
    assert tokenizer.vocabulary.tokens == make_tokenizer("byte").vocabulary.tokens
    assert list(tokenizer.vocabulary.counts) == [content.count(byte) for byte in range(256)]
    assert tokenizer.special_ids == {}
    assert encoded.unknown == 0
    assert encoded.ids.dtype == np.uint8


def test_bytes_decode_as_utf8() -> None:
    tokenizer = make_tokenizer("byte")
    text = "caf\u00e9 \u8a9e\n"
    assert tokenizer.decode(np.frombuffer(text.encode(), dtype=np.uint8)) == text


@given(UNICODE, UNICODE)
def test_any_text_can_be_scored_by_any_character_vocabulary(train: str, other: str) -> None:
    tokenizer = tokenizer_of("char", *sorted({*train.replace("\n", ""), EOS, UNK}))
    encoded = read_text(bytes_source("text", b"a" + other.encode()), tokenizer)
    text = f"a{other}" + ("" if other.endswith("\n") else "\n")
    absent = [character not in train for character in text if character != "\n"]
    unknown_ids = encoded.ids == tokenizer.vocabulary.unk_id
    assert encoded.unknown == sum(absent) == unknown_ids.sum()
    assert len(encoded.ids) == len(text)


def test_characters_are_sorted_by_count() -> None:
    vocabulary = trained_tokenizer(bytes_source("text", b"aab \r\nab\t\n"), "char").vocabulary
    assert vocabulary.tokens == ("a", EOS, "b", "\t", "\r", " ", UNK)
    assert vocabulary.counts == (3, 2, 2, 1, 1, 1, 0)


def test_text_without_characters_is_empty() -> None:
    with pytest.raises(DataError, match="empty"):
        trained_tokenizer(bytes_source("text", b""), "char")


def test_file_without_bytes_is_empty() -> None:
    with pytest.raises(DataError, match="empty"):
        read_text(bytes_source("file", b""), make_tokenizer("byte"))


@pytest.mark.parametrize("tokens", [["a"], ["a", UNK]])
def test_character_vocabulary_needs_special_tokens(tokens: list[str]) -> None:
    with pytest.raises(DataError, match="the vocabulary does not contain <"):
        tokenizer_of("char", *tokens)


def test_byte_vocabulary_is_fixed() -> None:
    tokens = make_tokenizer("byte").vocabulary.tokens
    for wrong in (["a", EOS], [*tokens, EOS], tokens[::-1]):
        with pytest.raises(DataError, match="the vocabulary"):
            tokenizer_of("byte", *wrong)


# --- the Penn Treebank's character files ---


@pytest.fixture(scope="module")
def ptb(ptb_directory: Path) -> Corpus:
    if not (ptb_directory / "ptb.char.train.txt").is_file():
        pytest.skip(f"needs the Penn Treebank's character files in {ptb_directory}")
    return load_corpus(data_config(ptb_directory, "char"))


@pytest.mark.parametrize(
    ("split", "characters", "lines"),
    [("train", 4_975_414, 42_068), ("valid", 389_672, 3_370), ("test", 438_662, 3_761)],
)
def test_counts_of_the_penn_treebank(ptb: Corpus, split: str, characters: int, lines: int) -> None:
    text = ptb.splits[split]  # type: ignore[index]
    eos = ptb.vocabulary.ids[EOS]
    assert len(text.ids) == characters + lines
    assert (text.ids == eos).sum() == lines
    assert text.unknown == 0


def test_characters_of_the_penn_treebank(ptb: Corpus, ptb_directory: Path) -> None:
    """There are 49; `_` is read as the space that it stands for, and `<unk>` is five of them."""
    vocabulary = ptb.vocabulary
    assert len(vocabulary) == 49 + len({EOS, UNK})
    assert set("abcdefghijklmnopqrstuvwxyz0123456789N #$&'*-./\\<>") < set(vocabulary.tokens)
    first = ptb.tokenizer.decode(ptb.splits["valid"].ids[:3000]).splitlines()[:-1]
    lines = (ptb_directory / "ptb.char.valid.txt").read_text().splitlines()
    assert [line.replace(" ", "_") for line in first] == [
        line.replace(" ", "") for line in lines[: len(first)]
    ]
    assert any("<unk>" in line for line in first)


def test_plain_text_has_the_same_ids_as_space_separated(ptb: Corpus, ptb_directory: Path) -> None:
    spaced = (ptb_directory / "ptb.char.test.txt").read_bytes()
    plain = spaced.replace(b" ", b"").replace(b"_", b" ")
    encoded = read_text(bytes_source("plain", plain), ptb.tokenizer)
    assert np.array_equal(encoded.ids, ptb.splits["test"].ids)
    assert ptb.tokenizer.decode(encoded.ids).encode() == plain


def test_penn_treebank_is_read_in_seconds(ptb: Corpus, ptb_directory: Path) -> None:
    assert len(ptb.vocabulary) == 51
    start = time.process_time()
    load_corpus(data_config(ptb_directory, "char"))
    assert time.process_time() - start < 5
