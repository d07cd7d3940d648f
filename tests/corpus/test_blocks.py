"""Reading block by block: the same tokens and the same errors, wherever the blocks' ends fall."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus import source as source_module
from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.reader import read_corpus, read_text
from ptblm.corpus.source import Source, bytes_source
from ptblm.corpus.splits import SPLITS, cut_by_position
from ptblm.corpus.tokenizers import word_table as word_numbers
from ptblm.corpus.tokenizers.base import Level
from ptblm.corpus.tokenizers.word_table import WordTable
from ptblm.corpus.vocabulary import EOS, UNK, Vocabulary, id_type
from ptblm.errors import DataError
from tests.corpus.helpers import raw, read_vocabulary

LEVELS: list[Level] = ["word", "char", "byte"]
BOM = "\ufeff".encode()
BLOCKS = st.sampled_from([1, 2, 3, 5, 8, 64])

# Words that differ in their first eight bytes, in their second, and in those beyond, which are not
# compared at once; all that separates words, or could.
BEGINNINGS = st.sampled_from(["", "abcdefgh", "abcdefghabcdefgh"])
ENDINGS = st.text(st.sampled_from("ab\x00é語😀"), max_size=3)
WORDS = st.tuples(BEGINNINGS, ENDINGS).map("".join).filter(bool)
SPACES = st.sampled_from(
    [*" \n\t\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u3000\ufeff", "\n "]
)
TEXTS = st.lists(WORDS | SPACES | st.just(EOS) | st.just(UNK), max_size=60).map("".join)
RAW = TEXTS.map(str.encode) | st.lists(
    st.sampled_from([b"a", b" ", b"\n", b"\xff", b"\xc3", b"\xa9", b"\xe8\xaa", "😀".encode(), BOM])
).map(b"".join)


def read_plainly(content: bytes) -> list[str]:
    """The words of a text, line by line, as simply as can be."""
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    words = [line.decode().removeprefix("\ufeff" * (not n)).split() for n, line in enumerate(lines)]
    return [word for line in words for word in [*line, EOS]]


def outcome(content: bytes, level: Level, vocabulary: Vocabulary | None) -> object:
    """All that can be seen of a reading."""
    source = bytes_source("text", content)
    try:
        vocabulary = vocabulary or read_vocabulary(source, level)
        text = read_text(source, level, vocabulary)
    except DataError as error:
        return str(error)
    return vocabulary.words, text.ids.tolist(), text.ids.dtype, text.unknown, text.sha256


@given(RAW, BLOCKS, st.sampled_from(LEVELS), st.sampled_from([None, [EOS, "a"], [EOS, UNK, "a"]]))
def test_blocks_of_any_size_read_the_same(
    content: bytes, size: int, level: Level, words: list[str] | None
) -> None:
    vocabulary = None if words is None else Vocabulary(words)
    whole = outcome(content, level, vocabulary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "BLOCK", size)
        assert outcome(content, level, vocabulary) == whole


@given(RAW, BLOCKS, st.sampled_from(LEVELS))
def test_blocks_are_the_whole_and_end_between_tokens(
    content: bytes, size: int, level: Level
) -> None:
    source = bytes_source("text", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "BLOCK", size)
        blocks = list(source.blocks(level))
    assert b"".join(block for _, block in blocks) == content
    assert [place for place, _ in blocks] == [
        sum(len(block) for _, block in blocks[:n]) for n in range(len(blocks))
    ]
    assert level != "word" or all(block[-1:] in b" \n" for _, block in blocks[:-1])


@given(RAW, BLOCKS)
def test_a_file_is_cut_the_same_with_blocks_of_any_size(content: bytes, size: int) -> None:
    for level in LEVELS:
        with pytest.MonkeyPatch.context() as patch:
            try:
                parts = cut_by_position(bytes_source("text", content), level)
            except DataError:
                continue
            patch.setattr(source_module, "BLOCK", size)
            assert cut_by_position(bytes_source("text", content), level) == parts
            for part in parts.values():
                line, byte = part.line_and_byte(part.start)
                before = content[: part.start]
                assert line == before.count(b"\n") + 1
                assert byte == len(before) - before.rfind(b"\n")


@given(TEXTS, st.sampled_from([2, 21]))
def test_words_are_those_of_a_plain_reader(text: str, table_bits: int) -> None:
    """Also where nearly all words fall on the same place of the table."""
    content = b"first\n" + text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_numbers, "_TABLE_BITS", table_bits)
        source = bytes_source("text", content)
        vocabulary = read_vocabulary(source, "word")
        ids = read_text(source, "word", vocabulary).ids
    expected = read_plainly(content)
    assert vocabulary.words == Vocabulary.from_counts(Counter(expected)).words
    assert [vocabulary.words[index] for index in ids] == expected


@given(st.lists(st.lists(WORDS, max_size=30), max_size=8))
def test_words_keep_their_numbers_from_block_to_block(blocks: list[list[str]]) -> None:
    numbers: dict[str, int] = {}
    learning, plain = WordTable(numbers, learn=True), dict[str, int]()
    for words in blocks:
        expected = [plain.setdefault(word, len(plain)) for word in words]
        assert learning.find(" ".join(words)).tolist() == expected
    assert numbers == plain
    known = WordTable(numbers, learn=False)
    for words in blocks:
        assert known.find("\t".join([*words, "unknown"])).tolist() == [*map(plain.get, words), -1]


def test_the_first_bad_thing_of_a_text_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary([EOS, "a"])
    content = b"a a\na zebra a\na \xff\n"
    for size in (1, 10, 1000):
        monkeypatch.setattr(source_module, "BLOCK", size)
        with pytest.raises(DataError, match="'zebra' is not in") as caught:
            read_text(bytes_source("text", content), "word", vocabulary)
        assert caught.value.where == "text:2"
        with pytest.raises(DataError, match=r"byte 3 of the line") as caught:
            read_text(bytes_source("text", content.replace(b"zebra", b"a")), "word", vocabulary)
        assert caught.value.where == "text:3"


@pytest.mark.parametrize("level", LEVELS)
def test_a_file_is_read_like_its_bytes(
    tmp_path: Path, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"the cat sat\non the <unk> mat\n" * 400
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    monkeypatch.setattr(source_module, "BLOCK", 1000)
    corpus = load_corpus(str(path), level)
    whole = read_corpus(cut_by_position(bytes_source("text", content), level), level)
    for split in SPLITS:
        assert np.array_equal(corpus.splits[split].ids, whole.splits[split].ids)
        assert corpus.splits[split].sha256 == whole.splits[split].sha256
    assert corpus.vocabulary.words == whole.vocabulary.words


def test_a_file_that_goes_away_is_a_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    source = Source(str(path), path, 0, 10)
    for read in (raw, lambda source: source.line_start(3), Source.sha256):
        with pytest.raises(DataError, match="can't be read: No such file"):
            read(source)


@pytest.mark.parametrize(("size", "kind"), [(256, "u1"), (257, "u2"), (65536, "u2"), (65537, "i4")])
def test_ids_take_the_smallest_type(size: int, kind: str) -> None:
    assert id_type(size) == np.dtype(kind)
    words = [EOS, *(f"w{number}" for number in range(size - 1))]
    text = " ".join(words[1:]).encode()
    ids = read_text(bytes_source("text", text), "word", Vocabulary(words)).ids
    assert ids.dtype == np.dtype(kind)
    assert ids.tolist() == [*range(1, size), 0]
