"""Layouts: the files of a corpus are found under the names that people use."""

import gzip
import os
import threading
from pathlib import Path

import pytest

from ptblm.corpus.corpus import load_corpus
from ptblm.errors import DataError
from tests.corpus.helpers import data_config

CONTENT = {"train": "ab b <unk>\n" * 9, "valid": "ab b\n" * 3, "test": "b ab\n" * 2}


def write(directory: Path, *names: str) -> Path:
    """Writes the train, valid and test text under these names."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, CONTENT.values(), strict=False):
        (directory / name).write_text(text)
    return directory


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "valid.txt", "test.txt"),
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        ("wiki.train.raw", "wiki.valid.raw", "wiki.test.raw"),
        ("train.tokens", "valid.tokens", "test.tokens"),
        ("train.txt", "dev.txt", "test.txt"),
        ("train", "dev", "test"),
        ("train.txt", "val.txt", "test.txt"),
        ("train.txt", "validation.txt", "test.txt"),
        ("text8.train.txt", "text8.valid.txt", "text8.test.txt"),
        ("Train.txt", "Valid.txt", "TEST.txt"),
        ("my-corpus_train.txt", "my-corpus_dev.txt", "my-corpus_test.txt"),
    ],
)
@pytest.mark.parametrize("inner", [".", "data", "simple-examples/data"])
def test_common_names(names: tuple[str, ...], inner: str, tmp_path: Path) -> None:
    write(tmp_path / inner, *names)
    corpus = load_corpus(data_config(tmp_path))
    assert [len(text.ids) for text in corpus.splits.values()] == [36, 9, 6]


def test_other_files_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", "valid.txt", "test.txt")
    for name in ("README.txt", "vocab.txt", "train.csv", "training_log.txt", "latest.txt"):
        (tmp_path / name).write_text("other words\n")
    (tmp_path / "test").mkdir()
    assert [len(t.ids) for t in load_corpus(data_config(tmp_path)).splits.values()] == [36, 9, 6]


def test_prepared_text_is_preferred_to_raw_text(tmp_path: Path) -> None:
    write(tmp_path, "train.txt", "valid.txt", "test.txt")
    for split in CONTENT:
        (tmp_path / f"{split}.txt.raw").write_text("raw\n" * 50)
    assert "raw" not in load_corpus(data_config(tmp_path)).vocabulary.ids


@pytest.mark.parametrize("tokenizer", ["word", "char", "byte"])
def test_missing_test_split_is_allowed(tokenizer: str, tmp_path: Path) -> None:
    write(tmp_path, "train.txt", "valid.txt")
    assert list(load_corpus(data_config(tmp_path, tokenizer)).splits) == ["train", "valid"]


def test_compressed_files_are_found(tmp_path: Path) -> None:
    for split, text in CONTENT.items():
        (tmp_path / f"{split}.txt.gz").write_bytes(gzip.compress(text.encode()))
    corpus = load_corpus(data_config(tmp_path))
    assert [len(text.ids) for text in corpus.splits.values()] == [36, 9, 6]
    assert corpus.notes == ["decompressed (gzip)"]


def test_complete_corpus_is_preferred(tmp_path: Path) -> None:
    write(tmp_path, "train.txt")
    for split, text in CONTENT.items():
        (tmp_path / f"{split}.txt.gz").write_bytes(gzip.compress(text.encode()))
    corpus = load_corpus(data_config(tmp_path))
    assert [len(text.ids) for text in corpus.splits.values()] == [36, 9, 6]


def test_hints_for_directories(tmp_path: Path) -> None:
    (tmp_path / "corpus.tgz").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_corpus(data_config(tmp_path))
    assert caught.value.hint == "unpack corpus.tgz first"
    write(tmp_path / "one", "train.txt")
    with pytest.raises(DataError) as caught:
        load_corpus(data_config(tmp_path / "one"))
    assert f"--data {tmp_path / 'one' / 'train.txt'}" in str(caught.value.hint)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "train.txt").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"train\.txt is a link to a missing file"):
        load_corpus(data_config(tmp_path / "two"))


def test_blank_part_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a b c d\n" * 100 + "\n" * 800)
    with pytest.raises(DataError, match="the valid split contains no word"):
        load_corpus(data_config(tmp_path / "text"))


def test_missing_split_lists_the_directory(tmp_path: Path) -> None:
    write(tmp_path, "wiki.train.tokens")
    (tmp_path / "wiki.dev2.tokens").write_text("a\n")
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match="the valid split is missing") as caught:
        load_corpus(data_config(tmp_path))
    assert "notes/, wiki.dev2.tokens, wiki.train.tokens" in caught.value.what
    assert str(caught.value.hint).startswith("name the file wiki.valid.tokens, or pass --data ")


def test_directory_of_books(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"book{number:02}.txt").write_text("a\n")
    with pytest.raises(DataError, match=r"book00\.txt, .* and 8 more") as caught:
        load_corpus(data_config(tmp_path))
    assert "join the files with `cat`" in str(caught.value.hint)


def test_subdirectory_without_a_train_file_is_no_corpus(tmp_path: Path) -> None:
    write(tmp_path / "inner", "train.txt", "valid.txt")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "test").write_text("a program\n")
    assert load_corpus(data_config(tmp_path)).splits["valid"].sha256
    (tmp_path / "inner" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"the train split is missing; .* bin/, inner/"):
        load_corpus(data_config(tmp_path))


def test_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the directory contains nothing"):
        load_corpus(data_config(tmp_path))


def test_two_corpora_in_a_directory(tmp_path: Path) -> None:
    write(tmp_path, "a.train.txt", "a.valid.txt")
    write(tmp_path, "b.train.txt", "b.valid.txt")
    with pytest.raises(DataError, match=r"several corpora .*: a\.\*\.txt, b\.\*\.txt"):
        load_corpus(data_config(tmp_path))
    write(tmp_path / "inner" / "x", "train.txt", "valid.txt")
    write(tmp_path / "inner" / "y", "train.txt", "valid.txt")
    with pytest.raises(DataError, match="several directories contain a corpus: x, y") as caught:
        load_corpus(data_config(tmp_path / "inner"))
    assert str(tmp_path / "inner" / "x") in str(caught.value.hint)


@pytest.mark.usefixtures("in_directory")
@pytest.mark.parametrize("name", ["ptb", "sample"])
def test_directory_with_the_name_of_a_corpus_is_mentioned(name: str) -> None:
    write(Path(name), "train.txt", "valid.txt", "test.txt")
    if name == "ptb":
        with pytest.raises(DataError, match="not downloaded") as caught:
            load_corpus(data_config(name))
        assert str(caught.value.hint).startswith("pass --data ./ptb ")
        write(Path("data/ptb"), "ptb.train.txt", "ptb.valid.txt", "ptb.test.txt")
    assert f"pass --data ./{name}" in load_corpus(data_config(name)).notes[0]
    corpus = load_corpus(data_config(f"./{name}"))
    assert corpus.notes == []
    assert len(corpus.splits["test"].ids) == 6


@pytest.mark.parametrize("text", ["~/corpus", "$HOME/corpus", "${HOME}/corpus/../corpus"])
def test_home_directory_in_a_path(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "corpus", "train.txt", "valid.txt", "test.txt")
    assert load_corpus(data_config(text)).name == "corpus"


def test_path_that_is_too_long_is_an_error() -> None:
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        load_corpus(data_config("a" * 300))


@pytest.mark.usefixtures("in_directory")
def test_missing_path_names_the_place_that_was_tried() -> None:
    with pytest.raises(DataError, match="texts/novel: no such directory or file") as caught:
        load_corpus(data_config("texts/novel"))
    assert caught.value.where == str(Path.cwd() / "texts" / "novel")
    with pytest.raises(DataError) as caught:
        load_corpus(data_config("https://example.org/novel.txt"))
    assert "download the file first" in str(caught.value.hint)


def test_text_from_a_pipe(tmp_path: Path) -> None:
    text = "".join(f"line {n % 7} of <unk>\n" for n in range(100))
    (tmp_path / "text.txt").write_text(text)
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=(text,))
    writer.start()
    theirs = load_corpus(data_config(tmp_path / "pipe"))
    writer.join(20)
    ours = load_corpus(data_config(tmp_path / "text.txt"))
    assert ours.sha256() == theirs.sha256()
    assert ours.split_rule == theirs.split_rule
