"""Vocabularies of models of other programs."""

import gzip
from pathlib import Path

import pytest

from ptblm.config.data import DataConfig
from ptblm.corpus import foreign_vocabulary
from ptblm.corpus.foreign_vocabulary import (
    read_word_list,
    vocabulary_of_examples,
    with_special_tokens,
)
from ptblm.errors import DataError
from tests.corpus.helpers import vocabulary_of

TEXTS = [
    "the cat\nthe dog\n",
    "no end",
    "",
    "\n\n",
    "cr lf\r\nlone\rcr\r",
    "wide\u00a0space\u2028line  two\tthree\n",
    "\ufeffmark <eos> inside\n",
    "a\x1cb\x85c\n",
    "word " * 100_000,
    "line\n" * 100_000,
]


def words_by_the_rule(directory: Path) -> list[str]:
    """The words as a program finds them that reads its files as Python text."""
    found: dict[str, None] = {}
    for split in ("train", "valid", "test"):
        with (directory / f"{split}.txt").open(encoding="utf8") as file:
            for line in file:
                found.update(dict.fromkeys([*line.split(), "<eos>"]))
    return [*found]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_words_have_the_order_of_the_rule(text: str, tmp_path: Path) -> None:
    for split, content in (("train", f"first\n{text}"), ("valid", text), ("test", "last words\n")):
        (tmp_path / f"{split}.txt").write_bytes(content.encode())
    vocabulary = vocabulary_of_examples(DataConfig(path=str(tmp_path)))
    assert list(vocabulary.tokens) == words_by_the_rule(tmp_path)


def test_counts_are_those_of_the_training_text(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a b a\na")
    (tmp_path / "valid.txt").write_text("b c\n")
    (tmp_path / "test.txt").write_text("d\n")
    vocabulary = vocabulary_of_examples(DataConfig(path=str(tmp_path)))
    expected = {"a": 3, "b": 1, "<eos>": 2, "c": 0, "d": 0}
    assert dict(zip(vocabulary.tokens, vocabulary.counts, strict=True)) == expected


def test_a_corpus_needs_separate_files(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a b\n")
    with pytest.raises(DataError, match="a file, not a directory"):
        vocabulary_of_examples(DataConfig(path=str(tmp_path / "text")))


def test_missing_files_are_reported(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none", "no such vocabulary"), (tmp_path, "a directory")):
        with pytest.raises(DataError, match=message) as caught:
            read_word_list(path)
        assert "one word per line" in str(caught.value.hint)
    with pytest.raises(DataError, match="no such corpus") as caught:
        vocabulary_of_examples(DataConfig(path=str(tmp_path / "none")))
    assert "trained on" in str(caught.value.hint)


def test_other_encodings_are_reported(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_bytes("café\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        vocabulary_of_examples(DataConfig(path=str(tmp_path)))
    with pytest.raises(DataError, match="not UTF-8"):
        read_word_list(tmp_path / "train.txt")


@pytest.mark.parametrize("content", ["the\ncat\n", "the\ncat", "\ufeffthe\r\ncat\r\n"])
def test_word_lists_are_read(content: str, tmp_path: Path) -> None:
    (tmp_path / "vocab").write_bytes(content.encode())
    assert read_word_list(tmp_path / "vocab").tokens == ("the", "cat")
    with gzip.open(tmp_path / "vocab.gz", "wb") as file:
        file.write(content.encode())
    assert read_word_list(tmp_path / "vocab.gz").tokens == ("the", "cat")


def test_large_files_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vocab").write_text("a\nb\nc\n")
    monkeypatch.setattr(foreign_vocabulary, "MAX_TOKENS", 2)
    with pytest.raises(DataError, match="more than 2 words"):
        read_word_list(tmp_path / "vocab")
    monkeypatch.setattr(foreign_vocabulary, "_MAX_BYTES", 5)
    with pytest.raises(DataError, match="more than 5 bytes"):
        read_word_list(tmp_path / "vocab")


def test_special_tokens_get_their_own_names() -> None:
    found = with_special_tokens(vocabulary_of("a", "<UNK>", "<EOS>", "</s>"), "vocab")
    assert found.vocabulary.tokens == ("a", "<unk>", "<eos>", "</s>")
    assert found.unk is None
    assert len(found.notes) == 2


def test_own_special_tokens_stay() -> None:
    tokens = ("<unk>", "UNK", "<UNK>", "</s>", "<eos>")
    found = with_special_tokens(vocabulary_of(*tokens), "vocab")
    assert (found.vocabulary.tokens, found.unk, found.notes) == (tokens, None, [])


def test_word_for_unknown_words_is_named_for_texts() -> None:
    found = with_special_tokens(vocabulary_of("UNK", "<eos>"), "vocab")
    assert (found.vocabulary.tokens, found.unk) == (("<unk>", "<eos>"), "UNK")
