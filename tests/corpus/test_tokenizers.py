"""Characters and bytes: everything that is in a text is in its ids, and comes back out of them."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.reader import Text, read_text
from ptblm.corpus.source import Source, bytes_source
from ptblm.corpus.tokenizers.bytes import BYTES
from ptblm.corpus.vocabulary import EOS, UNK, Vocabulary
from ptblm.errors import DataError
from tests.corpus.helpers import read_vocabulary

UNICODE = st.text(
    st.characters(codec="utf-8") | st.sampled_from("\n\r\t \ufeff\u2028\x00<>"), min_size=1
)


def spelled_out(text: Text, vocabulary: Vocabulary) -> str:
    symbols = (vocabulary.words[index] for index in text.ids)
    return "".join({EOS: "\n", UNK: "?"}.get(symbol, symbol) for symbol in symbols)


@given(UNICODE.filter(lambda text: text != "\ufeff"))
def test_every_text_comes_back_from_its_characters(text: str) -> None:
    source = bytes_source("text", text.encode())
    vocabulary = read_vocabulary(source, "char")
    encoded = read_text(source, "char", vocabulary)
    # A byte order mark is no letter, and the last line is a line.
    expected = text.removeprefix("\ufeff")
    expected += "" if expected.endswith("\n") else "\n"
    assert spelled_out(encoded, vocabulary) == expected
    assert encoded.unknown == 0
    assert encoded.ids.dtype == np.uint8
    assert len(vocabulary) == len(set(expected) | {"\n"}) + 1


@given(st.binary(min_size=1))
def test_all_bytes_come_back_from_their_ids(content: bytes) -> None:
    source = bytes_source("file", content)
    assert read_vocabulary(source, "byte") is BYTES
    encoded = read_text(source, "byte", BYTES)
    assert bytes(encoded.ids.tolist()) == content
    assert spelled_out(encoded, BYTES).encode("latin-1") == content
    assert encoded.unknown == 0
    assert encoded.ids.dtype == np.uint8


@given(UNICODE, UNICODE)
def test_any_text_can_be_scored_by_any_character_vocabulary(train: str, other: str) -> None:
    vocabulary = Vocabulary(sorted({*train.replace("\n", ""), EOS, UNK}))
    encoded = read_text(bytes_source("text", b"a" + other.encode()), "char", vocabulary)
    text = f"a{other}" + ("" if other.endswith("\n") else "\n")
    absent = [symbol not in train for symbol in text if symbol != "\n"]
    assert encoded.unknown == sum(absent) == (encoded.ids == vocabulary.unk_id).sum()
    assert len(encoded.ids) == len(text)


def test_characters_go_by_count_and_unk_last() -> None:
    vocabulary = read_vocabulary(bytes_source("text", b"aab \r\nab\t\n"), "char")
    assert vocabulary.words == ("a", EOS, "b", "\t", "\r", " ", UNK)


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_no_characters_at_all_is_an_empty_text(content: bytes) -> None:
    with pytest.raises(DataError, match="empty"):
        read_vocabulary(bytes_source("text", content), "char")


def test_no_bytes_at_all_is_an_empty_text() -> None:
    with pytest.raises(DataError, match="empty"):
        read_text(bytes_source("file", b""), "byte", BYTES)


def test_characters_that_are_no_utf8_are_located() -> None:
    content = b"\xef\xbb\xbffine\nalso fine\nbad \xff byte\n"
    with pytest.raises(DataError, match="byte 5 of the line") as caught:
        read_vocabulary(bytes_source("some.txt", content), "char")
    assert caught.value.where == "some.txt:3"
    assert "data.tokenizer byte" in str(caught.value.hint)
    with pytest.raises(DataError, match="byte 4 of the line") as caught:
        read_vocabulary(Source("some.txt", b"\n" * 6 + b"\xef\xbb\xbf\xff", 6, 10), "char")
    assert caught.value.where == "some.txt:7"


@pytest.mark.parametrize("words", [["a"], ["a", EOS], ["a", UNK]])
def test_a_character_vocabulary_lacks_no_mark(words: list[str]) -> None:
    with pytest.raises(DataError, match="the vocabulary has no <"):
        read_text(bytes_source("text", b"a\n"), "char", Vocabulary(words))


def test_bytes_have_one_vocabulary() -> None:
    with pytest.raises(DataError, match="not that of the 256 bytes"):
        read_text(bytes_source("text", b"a\n"), "byte", Vocabulary(["a", EOS]))


# --- the Penn Treebank's character files ---


@pytest.fixture(scope="module")
def ptb(ptb_directory: Path) -> Corpus:
    if not (ptb_directory / "ptb.char.train.txt").is_file():
        pytest.skip(f"needs the Penn Treebank's character files in {ptb_directory}")
    return load_corpus(str(ptb_directory), "char")


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
    """49 characters, `_` read as the space it stands for; `<unk>` is five of them."""
    vocabulary = ptb.vocabulary
    assert len(vocabulary) == 49 + len({EOS, UNK})
    assert set("abcdefghijklmnopqrstuvwxyz0123456789N #$&'*-./\\<>") < set(vocabulary.words)
    first = spelled_out(ptb.splits["valid"], vocabulary)[:3000].splitlines()[:-1]
    lines = (ptb_directory / "ptb.char.valid.txt").read_text().splitlines()
    assert [line.replace(" ", "_") for line in first] == [
        line.replace(" ", "") for line in lines[: len(first)]
    ]
    assert any("<unk>" in line for line in first)


def test_the_same_text_plain_has_the_same_ids(ptb: Corpus, ptb_directory: Path) -> None:
    spelled = (ptb_directory / "ptb.char.test.txt").read_bytes()
    plain = bytes_source("plain", spelled.replace(b" ", b"").replace(b"_", b" "))
    encoded = read_text(plain, "char", ptb.vocabulary)
    assert np.array_equal(encoded.ids, ptb.splits["test"].ids)


def test_the_penn_treebank_is_read_in_seconds(ptb: Corpus, ptb_directory: Path) -> None:
    assert len(ptb.vocabulary) == 51
    start = time.process_time()
    load_corpus(str(ptb_directory), "char")
    assert time.process_time() - start < 5
