"""Reading block by block: tokens and errors do not depend on where blocks end."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus import source as source_module
from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.layout import SPLITS
from ptblm.corpus.reader import read_corpus, read_text
from ptblm.corpus.source import Source, TextBlocks, bytes_source
from ptblm.corpus.splits import RawCorpus, split_by_position
from ptblm.corpus.tokenizers import TOKENIZERS, make_tokenizer, word_table
from ptblm.corpus.tokenizers.word_table import WordTable
from ptblm.corpus.vocabulary import EOS, UNK, Vocabulary, id_dtype
from ptblm.errors import DataError
from tests.corpus.helpers import TOKENIZER_NAMES, data_config, raw, tokenizer_of, trained_tokenizer

NAMES = st.sampled_from(TOKENIZER_NAMES)
BOM = "\ufeff".encode()
BLOCKS = st.sampled_from([1, 2, 3, 5, 8, 64])

# Words that differ in their first eight bytes, in the second eight, or after the 16 bytes that the
# table compares; and everything that separates words, or might be expected to.
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


def simple_reader(content: bytes) -> list[str]:
    """The words of a text, line by line, in the simplest way."""
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [word for line in lines for word in [*line.decode().split(), EOS]]


def outcome(content: bytes, name: str, tokens: list[str] | None) -> object:
    """Everything observable of reading a text."""
    source = bytes_source("text", content)
    try:
        tokenizer = tokenizer_of(name, *tokens) if tokens else trained_tokenizer(source, name)
        text = read_text(source, tokenizer)
    except DataError as error:
        return str(error)
    vocabulary = tokenizer.vocabulary
    seen = text.ids.tolist(), text.ids.dtype, text.unknown, text.sha256
    return vocabulary.tokens, vocabulary.counts, seen


@given(RAW, BLOCKS, NAMES, st.sampled_from([None, [EOS, "a"], [EOS, UNK, "a"]]))
def test_result_does_not_depend_on_block_size(
    content: bytes, size: int, name: str, tokens: list[str] | None
) -> None:
    whole = outcome(content, name, tokens)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "BLOCK_SIZE", size)
        assert outcome(content, name, tokens) == whole


@given(RAW, BLOCKS, NAMES)
def test_blocks_are_complete_and_end_between_tokens(content: bytes, size: int, name: str) -> None:
    source = bytes_source("text", content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "BLOCK_SIZE", size)
        blocks = list(source.blocks(TOKENIZERS[name].block_end))
    assert b"".join(block for _, block in blocks) == content
    assert [offset for offset, _ in blocks] == [
        sum(len(block) for _, block in blocks[:n]) for n in range(len(blocks))
    ]
    assert name != "word" or all(block[-1:] in b" \n" for _, block in blocks[:-1])


def test_blocks_can_be_read_again() -> None:
    blocks = TextBlocks(bytes_source("text", b"a b\n"), len)
    first = (list(blocks), blocks.sha256)
    assert (list(blocks), blocks.sha256) == first
    assert blocks.sha256 == blocks.source.sha256()


@given(RAW, BLOCKS)
def test_splits_do_not_depend_on_block_size(content: bytes, size: int) -> None:
    for name in TOKENIZER_NAMES:
        with pytest.MonkeyPatch.context() as patch:
            try:
                parts, unit = split_by_position(bytes_source("text", content), name)
            except DataError:
                continue
            patch.setattr(source_module, "BLOCK_SIZE", size)
            assert split_by_position(bytes_source("text", content), name) == (parts, unit)
            for part in parts.values():
                line, byte = part.line_and_byte(part.start)
                before = content[: part.start]
                assert line == before.count(b"\n") + 1
                assert byte == len(before) - before.rfind(b"\n")


@given(TEXTS, st.sampled_from([2, 21]))
def test_words_equal_those_of_a_simple_reader(text: str, table_bits: int) -> None:
    """Also if nearly all words hash to the same slot of the table."""
    content = b"first\n" + text.encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_table, "_TABLE_BITS", table_bits)
        source = bytes_source("text", content)
        tokenizer = trained_tokenizer(source, "word", closed=True)
        ids = read_text(source, tokenizer).ids
    expected = simple_reader(content)
    counts = Counter(expected)
    vocabulary = tokenizer.vocabulary
    assert vocabulary.tokens == Vocabulary.sorted_by_count(counts).tokens
    assert dict(zip(vocabulary.tokens, vocabulary.counts, strict=True)) == counts
    assert [vocabulary.tokens[index] for index in ids] == expected


@given(st.lists(st.lists(WORDS, max_size=30), max_size=8))
def test_words_keep_their_ids_across_blocks(blocks: list[list[str]]) -> None:
    ids: dict[str, int] = {}
    growing, expected_ids = WordTable(ids, grow_vocabulary=True), dict[str, int]()
    for words in blocks:
        expected = [expected_ids.setdefault(word, len(expected_ids)) for word in words]
        assert growing.find(" ".join(words).encode()).tolist() == expected
    assert ids == expected_ids
    fixed = WordTable(ids, grow_vocabulary=False)
    for words in blocks:
        expected = [*(expected_ids[word] for word in words), -1]
        assert fixed.find("\t".join([*words, "unknown"]).encode()).tolist() == expected


@pytest.mark.parametrize("name", ["word", "char"])
def test_first_unknown_token_is_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tokenizer_of(name, EOS, "a", " ")
    token = {"word": "zebra", "char": "z"}[name]
    for size in (1, 10, 1000):
        monkeypatch.setattr(source_module, "BLOCK_SIZE", size)
        with pytest.raises(DataError, match=f"'{token}' is not in") as caught:
            read_text(bytes_source("text", b"a a\na zebra a\na yak\n"), tokenizer)
        assert caught.value.where == "text:2"


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_file_gives_the_same_ids_as_its_bytes(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"the cat sat\non the <unk> mat\n" * 400
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    monkeypatch.setattr(source_module, "BLOCK_SIZE", 1000)
    corpus = load_corpus(data_config(path, name))
    raw_corpus = RawCorpus(path, {}, bytes_source("text", content))
    whole = read_corpus(raw_corpus, data_config(path, name))
    for split in SPLITS:
        assert np.array_equal(corpus.splits[split].ids, whole.splits[split].ids)
        assert corpus.splits[split].sha256 == whole.splits[split].sha256
    assert corpus.vocabulary.tokens == whole.written.tokenizer.vocabulary.tokens


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_counts_are_those_of_the_training_split(tmp_path: Path, name: str) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes("the cat\n😀 mat <unk>\n".encode() * 41)
    corpus = load_corpus(data_config(path, name))
    counts = np.bincount(corpus.splits["train"].ids, minlength=len(corpus.vocabulary))
    assert list(corpus.vocabulary.counts) == counts.tolist()


def test_file_that_disappears_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    source = Source(str(path), path, 0, 10)
    for read in (raw, lambda source: source.next_start(3, "line"), Source.sha256):
        with pytest.raises(DataError, match="cannot be read: No such file"):
            read(source)


@pytest.mark.parametrize(("size", "kind"), [(256, "u1"), (257, "u2"), (65536, "u2"), (65537, "i4")])
def test_ids_have_the_smallest_dtype(size: int, kind: str) -> None:
    assert id_dtype(size) == np.dtype(kind)
    tokens = [EOS, *(f"w{number}" for number in range(size - 1))]
    text = " ".join(tokens[1:]).encode()
    tokenizer = make_tokenizer("word", Vocabulary(tokens, [0] * size))
    ids = read_text(bytes_source("text", text), tokenizer).ids
    assert ids.dtype == np.dtype(kind)
    assert ids.tolist() == [*range(1, size), 0]


@pytest.mark.parametrize(("tokens", "counts"), [(["a", "a"], [1, 1]), (["a"], [1, 2])])
def test_malformed_vocabulary_is_rejected(tokens: list[str], counts: list[int]) -> None:
    with pytest.raises(ValueError, match=r"twice|counts"):
        Vocabulary(tokens, counts)
