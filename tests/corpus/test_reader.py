"""The reader and its batches: equality with TensorFlow's reader, and invalid text."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ptblm.corpus.batches import batchify
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.reader import read_text
from ptblm.corpus.source import bytes_source, read_file
from ptblm.errors import DataError
from tests.corpus.helpers import data_config, tokenizer_of, trained_tokenizer


@pytest.fixture(scope="session")
def ptb(ptb_directory: Path) -> Corpus:
    return load_corpus(data_config(ptb_directory))


def test_ids_equal_tensorflows_reader(ptb: Corpus, golden: Path) -> None:
    expected = json.loads((golden / "reader.json").read_text())
    for split, text in ptb.splits.items():
        assert len(text.ids) == expected["counts"][split]
        digest = hashlib.sha256(text.ids.astype("<i4").tobytes()).hexdigest()
        assert digest == expected["ids_sha256_int32_le"][split]
        assert text.unknown == 0
        assert text.ids.dtype == np.uint16


def test_vocabulary_equals_tensorflows_reader(ptb: Corpus, golden: Path) -> None:
    expected = json.loads((golden / "reader.json").read_text())
    tokens = ptb.vocabulary.tokens
    assert len(tokens) == expected["vocab_size"]
    assert list(tokens[:30]) == [word for word, _ in expected["first30_of_vocabulary_by_id"]]
    joined = hashlib.sha256("\n".join(tokens).encode()).hexdigest()
    assert joined == expected["vocabulary_sha256_newline_joined"]
    for word, index in expected["special_ids"].items():
        assert ptb.vocabulary.ids[word] == index


@pytest.mark.parametrize("shape", ["20,20", "20,35", "1,1"])
def test_epoch_sizes_equal_tensorflows_reader(ptb: Corpus, golden: Path, shape: str) -> None:
    expected = json.loads((golden / "reader.json").read_text())["epoch_size"][shape]
    batch_size, num_steps = map(int, shape.split(","))
    for split, text in ptb.splits.items():
        assert len(batchify(text.ids, batch_size, num_steps, split)) == expected[split]


def test_batches_equal_tensorflows_queue(ptb: Corpus, golden: Path) -> None:
    expected = json.loads((golden / "reader.json").read_text())["train_20_20"]
    batches = batchify(ptb.splits["train"].ids, 20, 20, "train")
    for place, step in (("first", 0), ("last", len(batches) - 1)):
        inputs, targets = batches[step]
        assert inputs.tolist() == expected[place]["x"]
        assert targets.tolist() == expected[place]["y"]


def test_targets_are_shifted_inputs_of_contiguous_streams() -> None:
    batches = batchify(np.arange(23, dtype=np.int32), 2, 5, "train")
    assert len(batches) == 2
    inputs, targets = batches[1]
    assert inputs.tolist() == [[5, 6, 7, 8, 9], [16, 17, 18, 19, 20]]
    assert targets.tolist() == [[6, 7, 8, 9, 10], [17, 18, 19, 20, 21]]
    with pytest.raises(IndexError):
        batches[2]


def test_last_full_step_is_kept() -> None:
    """A stream of T + 1 tokens is one full step."""
    assert len(batchify(np.arange(6, dtype=np.int32), 1, 5, "train")) == 1
    assert len(batchify(np.arange(11, dtype=np.int32), 1, 5, "train")) == 2


@pytest.mark.parametrize(
    ("tokens", "hint"),
    [(100, "batch_size to 4 or less"), (12, "num_steps to 11 or less"), (1, "a longer text")],
)
def test_too_short_split_suggests_smaller_batches(tokens: int, hint: str) -> None:
    with pytest.raises(DataError) as caught:
        batchify(np.zeros(tokens, dtype=np.int32), 20, 20, "valid")
    assert f"the valid split has {tokens}" in caught.value.what
    assert "needs 420" in caught.value.what
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_suggested_batches_fit() -> None:
    batchify(np.zeros(100, dtype=np.int32), 4, 20, "valid")
    batchify(np.zeros(12, dtype=np.int32), 1, 11, "valid")


def test_vocabulary_is_from_the_training_split_only(small_corpus: Path) -> None:
    (small_corpus / "valid.txt").write_text("zebra the <unk>\n" * 30)
    corpus = load_corpus(data_config(small_corpus))
    assert "zebra" not in corpus.vocabulary.ids
    valid = corpus.splits["valid"]
    assert valid.unknown == 30
    assert (valid.ids == corpus.vocabulary.unk_id).sum() == 60


def test_ids_are_sorted_by_count_then_by_word(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("b a c b\nc\n")
    assert trained_tokenizer(read_file(path), "word", closed=True).vocabulary.tokens == (
        "<eos>",
        "b",
        "c",
        "a",
    )


def test_unknown_word_without_unk_is_located(tmp_path: Path) -> None:
    path = tmp_path / "valid.txt"
    path.write_text("a a\na zebra a\n")
    with pytest.raises(DataError, match="'zebra' is not in the vocabulary") as caught:
        read_text(read_file(path), tokenizer_of("word", "<eos>", "a"))
    assert caught.value.where == f"{path}:2"


@pytest.mark.parametrize("content", [b"", b"\n", b"   \n\n \t\n"])
def test_empty_text_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match="empty"):
        trained_tokenizer(read_file(path), "word")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a b\na\n", "a b / a /"),
        (b"a b\na", "a b / a /"),  # no final newline: the last line is a line
        (b" a  b \n\na\n", "a b / / a /"),  # an empty line is an empty sentence
        (b"a <eos> b\n", "a / b /"),  # as some corpora mark line ends
    ],
)
def test_lines_become_words_and_eos(content: bytes, words: str) -> None:
    tokenizer = tokenizer_of("word", "<eos>", "a", "b")
    text = read_text(bytes_source("text", content), tokenizer)
    expected = words.replace("/", "<eos>").split()
    assert [tokenizer.vocabulary.tokens[index] for index in text.ids] == expected
    assert text.sha256 == hashlib.sha256(content).hexdigest()


def test_missing_split_is_named(small_corpus: Path) -> None:
    (small_corpus / "valid.txt").unlink()
    with pytest.raises(DataError, match="the valid split is missing"):
        load_corpus(data_config(small_corpus))


@pytest.mark.usefixtures("in_directory")
def test_missing_ptb_suggests_download_and_sample() -> None:
    with pytest.raises(DataError) as caught:
        load_corpus(data_config("ptb"))
    assert str(caught.value.hint).startswith("run `ptblm download-data`, or pass --data sample")


def test_path_that_is_not_a_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such directory or file") as caught:
        load_corpus(data_config(tmp_path / "nowhere"))
    assert caught.value.where == str(tmp_path / "nowhere")
    assert "--data takes ptb, sample" in str(caught.value.hint)
    with pytest.raises(DataError, match="not a directory, a file or a pipe"):
        load_corpus(data_config("/dev/null"))


@pytest.mark.parametrize("text", ["\u4eca\u5929\u5929\u6c14" * 400, "ACGT" * 900])
def test_text_without_spaces_is_not_read_as_words(text: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_text(text)
    with pytest.raises(DataError, match="almost no spaces") as caught:
        load_corpus(data_config(tmp_path / "text"))
    assert "--tokenizer char" in str(caught.value.hint)
    assert len(load_corpus(data_config(tmp_path / "text", "char")).splits["test"].ids) > 50
