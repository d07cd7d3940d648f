"""Splits: one file divided by position, or three files of a directory."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.layout import SPLITS
from ptblm.corpus.source import bytes_source
from ptblm.corpus.splits import corpus_name, locate_corpus, split_by_position
from ptblm.errors import DataError
from tests.corpus.helpers import TOKENIZER_NAMES, data_config, raw


@given(st.binary(max_size=400) | st.lists(st.sampled_from([b"a", b"\n"])).map(b"".join))
def test_parts_add_up_to_the_whole(content: bytes) -> None:
    for name in TOKENIZER_NAMES:
        try:
            parts, unit = split_by_position(bytes_source("file", content), name)
        except DataError:
            assert len(content) < 30 or (name != "byte" and b"a" not in content)
            continue
        assert list(parts) == list(SPLITS)
        assert b"".join(raw(part) for part in parts.values()) == content
        assert all(raw(part) for part in parts.values())
        for split in ("train", "valid"):
            assert unit != "line" or raw(parts[split]).endswith(b"\n")
            assert unit != "word" or raw(parts[split])[-1:] in (b" ", b"\n", b"\t")


def test_bytes_are_split_at_90_and_95_percent() -> None:
    parts, _ = split_by_position(bytes_source("file", bytes(range(200)) + b"\n" * 7), "byte")
    assert [part.size for part in parts.values()] == [186, 10, 11]


@pytest.mark.parametrize("name", ["word", "char"])
def test_lines_are_not_divided(name: str) -> None:
    """20 lines of 10 bytes: a boundary moves to the next start of a line."""
    lines = b"123456789\n" * 20
    parts, _ = split_by_position(bytes_source("file", lines), name)
    assert [part.size for part in parts.values()] == [180, 10, 10]
    assert [part.line_and_byte(part.start)[0] for part in parts.values()] == [1, 19, 20]
    parts, _ = split_by_position(bytes_source("file", b"\n" + lines), name)
    assert [part.size for part in parts.values()] == [181, 10, 10]
    parts, _ = split_by_position(bytes_source("file", lines[:180] + b"\n" + lines[180:]), name)
    assert [part.size for part in parts.values()] == [180, 11, 10]


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
@pytest.mark.parametrize("content", [b"", b"a", b"two words"])
def test_too_short_text_is_an_error(content: bytes, name: str) -> None:
    with pytest.raises(DataError, match="too short to be split by position") as caught:
        split_by_position(bytes_source("few.txt", content), name)
    assert caught.value.where == "few.txt"


LONG_LINES = {
    "one line": b"ab cd " * 200,
    "one line with an end": b"ab cd " * 200 + b"\n",
    "two long lines": b"ab cd " * 100 + b"\n" + b"ab cd " * 100 + b"\n",
    "a long last line": b"ab cd\n" * 170 + b"ab cd " * 30,
    "a line that ends before 95%": b"ab cd\n" * 170 + b"ab cd " * 19 + b"\n" + b"ab cd\n" * 10,
}


@pytest.mark.parametrize("content", LONG_LINES.values(), ids=LONG_LINES)
def test_long_lines_are_divided_at_words_or_characters(content: bytes) -> None:
    sizes = {}
    for name in TOKENIZER_NAMES:
        parts, unit = split_by_position(bytes_source("text", content), name)
        assert unit == {"word": "word", "char": "character", "byte": "byte"}[name]
        assert b"".join(raw(part) for part in parts.values()) == content
        sizes[name] = [part.size for part in parts.values()]
    assert sizes["char"] == sizes["byte"]
    differences = np.subtract(np.cumsum(sizes["word"]), np.cumsum(sizes["byte"]))
    assert all(0 <= difference <= 3 for difference in differences)


@pytest.mark.parametrize("name", ["word", "char"])
def test_text_without_spaces_is_divided_between_characters(name: str) -> None:
    content = "今天天气很好我们去公园吧".encode() * 20
    parts, unit = split_by_position(bytes_source("text", content), name)
    assert unit == "character"
    assert [len(raw(part).decode()) for part in parts.values()] == [216, 12, 12]


@pytest.fixture
def novel(tmp_path: Path) -> Path:
    path = tmp_path / "novel.txt"
    path.write_text("".join(f"line {number % 7} of it\n" for number in range(100)))
    return path


@pytest.mark.parametrize("name", TOKENIZER_NAMES)
def test_one_file_is_a_corpus(novel: Path, name: str) -> None:
    corpus = load_corpus(data_config(novel, name))
    assert corpus.name == "novel"
    assert corpus.split_rule is not None
    assert corpus.split_rule.startswith("by position: 90% train, 5% valid, 5% test")
    assert (", at line ends" in corpus.split_rule) == (name != "byte")
    raw = novel.read_bytes()
    hashes = [
        hashlib.sha256(raw[a:b]).hexdigest() for a, b in ((0, 1170), (1170, 1235), (1235, 1300))
    ]
    assert [text.sha256 for text in corpus.splits.values()] == hashes
    tokens = {"word": 5, "char": 13, "byte": 13}[name]
    assert [len(text.ids) for text in corpus.splits.values()] == [tokens * n for n in (90, 5, 5)]


def test_three_files_have_no_split_rule(small_corpus: Path) -> None:
    assert load_corpus(data_config(small_corpus, "char")).split_rule is None
    assert corpus_name(str(small_corpus)) == "corpus"


def test_error_in_a_part_names_the_line_of_the_file(novel: Path) -> None:
    lines = novel.read_bytes().splitlines(keepends=True)
    novel.write_bytes(b"".join([*lines[:97], b"\xff\n", *lines[98:]]))
    for name in ("word", "char"):
        with pytest.raises(DataError, match="not UTF-8") as caught:
            load_corpus(data_config(novel, name))
        assert caught.value.where == f"{novel}:98"
    assert len(load_corpus(data_config(novel, "byte")).splits["test"].ids) > 0


def test_each_tokenizer_has_its_files(tmp_path: Path) -> None:
    for split in SPLITS:
        for prefix in ("ptb.", "ptb.char.", ""):
            (tmp_path / f"{prefix}{split}.txt").write_text(f"{prefix} {split}\n")
    for name, prefix in (("word", "ptb."), ("char", "ptb.char."), ("byte", "ptb.")):
        for split, source in locate_corpus(data_config(tmp_path, name)).files.items():
            assert raw(source) == f"{prefix} {split}\n".encode()
    (tmp_path / "ptb.char.valid.txt").unlink()
    with pytest.raises(DataError, match="the valid split is missing") as caught:
        locate_corpus(data_config(tmp_path, "char"))
    assert caught.value.hint == "name the file ptb.char.valid.txt"


@pytest.mark.usefixtures("in_directory")
def test_ptb_without_character_files_suggests_download(small_corpus: Path) -> None:
    (Path("data")).mkdir()
    small_corpus.rename("data/ptb")
    for path in list(Path("data/ptb").iterdir()):
        path.rename(f"data/ptb/ptb.{path.name}")
    assert load_corpus(data_config("ptb")).name == "ptb"
    with pytest.raises(
        DataError, match=r"Penn Treebank is not downloaded: ptb\.char\.train"
    ) as caught:
        load_corpus(data_config("ptb", "char"))
    assert "download-data" in str(caught.value.hint)
