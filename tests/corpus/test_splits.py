"""One file cut in three: nothing lost, nothing torn, and said where it was."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.source import bytes_source
from ptblm.corpus.splits import SPLITS, corpus_name, cut_by_position, how_cut, read_splits
from ptblm.corpus.tokenizers.base import Level
from ptblm.errors import DataError
from tests.corpus.helpers import raw

LEVELS: list[Level] = ["word", "char", "byte"]


@given(st.binary(max_size=400) | st.lists(st.sampled_from([b"a", b"\n"])).map(b"".join))
def test_the_parts_are_the_whole(content: bytes) -> None:
    for level in LEVELS:
        try:
            parts = cut_by_position(bytes_source("file", content), level)
        except DataError:
            assert level != "byte" or len(content) < 20
            continue
        assert list(parts) == list(SPLITS)
        assert b"".join(raw(part) for part in parts.values()) == content
        assert all(raw(part) for part in parts.values())
        for split in ("train", "valid"):
            assert level == "byte" or raw(parts[split]).endswith(b"\n")


def test_bytes_are_cut_at_90_and_95_percent_exactly() -> None:
    parts = cut_by_position(bytes_source("file", bytes(range(200)) + b"\n" * 7), "byte")
    assert [part.size for part in parts.values()] == [186, 10, 11]


@pytest.mark.parametrize("level", ["word", "char"])
def test_lines_are_cut_where_the_next_begins(level: Level) -> None:
    """20 lines of 10 bytes: a cut at a line's start stays there, others move on to the next."""
    lines = b"123456789\n" * 20
    parts = cut_by_position(bytes_source("file", lines), level)
    assert [part.size for part in parts.values()] == [180, 10, 10]
    assert [part.line_and_byte(part.start)[0] for part in parts.values()] == [1, 19, 20]
    parts = cut_by_position(bytes_source("file", b"\n" + lines), level)
    assert [part.size for part in parts.values()] == [181, 10, 10]
    parts = cut_by_position(bytes_source("file", lines[:180] + b"\n" + lines[180:]), level)
    assert [part.size for part in parts.values()] == [180, 11, 10]


@pytest.mark.parametrize("level", ["word", "char"])
@pytest.mark.parametrize("content", [b"", b"one line\n", b"one line, no end", b"two\nlines\n"])
def test_too_few_lines_are_refused(content: bytes, level: Level) -> None:
    with pytest.raises(DataError, match="nothing is left for") as caught:
        cut_by_position(bytes_source("few.txt", content), level)
    assert caught.value.where == "few.txt"
    assert "data.tokenizer byte" in str(caught.value.hint)


@pytest.fixture
def novel(tmp_path: Path) -> Path:
    path = tmp_path / "novel.txt"
    path.write_text("".join(f"line {number % 7} of it\n" for number in range(100)))
    return path


@pytest.mark.parametrize("level", LEVELS)
def test_one_file_is_a_corpus(novel: Path, level: Level) -> None:
    corpus = load_corpus(str(novel), level)
    assert corpus.name == "novel"
    assert corpus.cut is not None
    assert corpus.cut.startswith("by position: 90% train, 5% valid, 5% test")
    assert (", at line ends" in corpus.cut) == (level != "byte")
    raw = novel.read_bytes()
    hashes = [
        hashlib.sha256(raw[a:b]).hexdigest() for a, b in ((0, 1170), (1170, 1235), (1235, 1300))
    ]
    assert [text.sha256 for text in corpus.splits.values()] == hashes
    tokens = {"word": 5, "char": 13, "byte": 13}[level]
    assert [len(text.ids) for text in corpus.splits.values()] == [tokens * n for n in (90, 5, 5)]


def test_three_files_are_not_cut(small_corpus: Path) -> None:
    assert how_cut(str(small_corpus), "char") is None
    assert corpus_name(str(small_corpus)) == "corpus"


def test_a_part_names_the_files_own_line(novel: Path) -> None:
    lines = novel.read_bytes().splitlines(keepends=True)
    novel.write_bytes(b"".join([*lines[:97], b"\xff\n", *lines[98:]]))
    for level in ("word", "char"):
        with pytest.raises(DataError, match="not UTF-8") as caught:
            load_corpus(str(novel), level)
        assert caught.value.where == f"{novel}:98"
    assert len(load_corpus(str(novel), "byte").splits["test"].ids) > 0


def test_each_level_has_its_files(tmp_path: Path) -> None:
    for split in SPLITS:
        for prefix in ("ptb.", "ptb.char.", ""):
            (tmp_path / f"{prefix}{split}.txt").write_text(f"{prefix} {split}\n")
    for level, prefix in (("word", "ptb."), ("char", "ptb.char."), ("byte", "ptb.")):
        for split, source in read_splits(str(tmp_path), level).items():  # type: ignore[arg-type]
            assert raw(source) == f"{prefix} {split}\n".encode()
    (tmp_path / "ptb.char.valid.txt").unlink()
    with pytest.raises(DataError, match="the valid split is missing") as caught:
        read_splits(str(tmp_path), "char")
    assert caught.value.hint == "a file named ptb.char.valid.txt belongs there"


def test_a_directory_of_words_alone_has_no_characters(small_corpus: Path) -> None:
    for path in list(small_corpus.iterdir()):
        path.rename(small_corpus / f"ptb.{path.name}")
    with pytest.raises(DataError, match="the train split is missing") as caught:
        load_corpus(str(small_corpus), "char")
    assert caught.value.hint == "a file named ptb.char.train.txt or train.txt belongs there"


@pytest.mark.usefixtures("in_directory")
def test_ptb_without_its_character_files_says_how_to_get_them(small_corpus: Path) -> None:
    (Path("data")).mkdir()
    small_corpus.rename("data/ptb")
    for path in list(Path("data/ptb").iterdir()):
        path.rename(f"data/ptb/ptb.{path.name}")
    assert load_corpus("ptb").name == "ptb"
    with pytest.raises(DataError, match="Penn Treebank, by characters, is not here") as caught:
        load_corpus("ptb", "char")
    assert "download-data" in str(caught.value.hint)
