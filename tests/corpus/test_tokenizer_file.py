"""A tokenizer.json: written by the library, read without it, and anything else that it can be."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.reader import read_text
from ptblm.corpus.source import bytes_source
from ptblm.corpus.tokenizer_file import MAX_BYTES, read_tokenizer_file, tokenizer_document
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.vocabulary import EOS
from ptblm.errors import DataError
from tests.corpus.helpers import data_config
from tests.in_process import locations

library = pytest.importorskip("tokenizers")

TEXT = ["the cat sat on the mat", "a dog and the cat", "the dog  ran: isn't it?"]


def library_tokenizer(*special: str) -> Any:
    """A tokenizer that was trained by the library alone."""
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = library.decoders.ByteLevel()
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(
        vocab_size=280, special_tokens=list(special), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return tokenizer


@pytest.fixture(scope="module")
def good() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(library_tokenizer("<|endoftext|>").to_str())
    return document


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("special", [[], ["<|endoftext|>"], ["<pad>", EOS]])
def test_ids_are_those_of_the_library(special: list[str], tmp_path: Path) -> None:
    theirs = library_tokenizer(*special)
    theirs.save(str(tmp_path / "tokenizer.json"))
    vocabulary = read_tokenizer_file(tmp_path / "tokenizer.json")
    ours = make_tokenizer("bpe", vocabulary)
    assert len(vocabulary) == 280 + (EOS not in special)
    assert all(vocabulary.ids[token] == index for token, index in theirs.get_vocab().items())
    for line in [*TEXT, "a\u00a0< pad> \u8a9e"]:
        ids = read_text(bytes_source("text", line.encode()), ours).ids.tolist()
        assert ids == [*theirs.encode(line).ids, ours.line_end_id]


def test_special_tokens_of_the_file_are_text(good: dict[str, Any], tmp_path: Path) -> None:
    path = write(tmp_path / "tokenizer.json", good)
    tokenizer = make_tokenizer("bpe", read_tokenizer_file(path))
    text = f"<|endoftext|> {EOS}\n"
    ids = read_text(bytes_source("text", text.encode()), tokenizer).ids
    assert tokenizer.decode(ids) == text
    assert tokenizer.ids["<|endoftext|>"] not in ids.tolist()
    assert (ids == tokenizer.line_end_id).sum() == 1


def test_written_file_is_read_by_the_library(good: dict[str, Any], tmp_path: Path) -> None:
    vocabulary = read_tokenizer_file(write(tmp_path / "tokenizer.json", good))
    document = tokenizer_document(vocabulary)
    theirs = library.Tokenizer.from_str(json.dumps(document))
    assert theirs.decode(theirs.encode(TEXT[2]).ids) == TEXT[2]
    again = read_tokenizer_file(write(tmp_path / "again.json", document))
    assert again.symbols == vocabulary.symbols


def test_merges_can_be_written_as_strings(good: dict[str, Any], tmp_path: Path) -> None:
    old = copy.deepcopy(good)
    old["model"]["merges"] = [" ".join(pair) for pair in good["model"]["merges"]]
    del old["model"]["type"], old["model"]["ignore_merges"]
    paths = [write(tmp_path / f"{n}.json", each) for n, each in enumerate((good, old))]
    assert read_tokenizer_file(paths[0]).symbols == read_tokenizer_file(paths[1]).symbols


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "the model is 'WordPiece', not BPE": lambda d: d["model"].update(type="WordPiece"),
    "the model is 'Unigram', not BPE": lambda d: d["model"].update(type="Unigram"),
    "contains no model": lambda d: d.pop("model"),
    "contains no model with": lambda d: d["model"].pop("vocab"),
    "no list of merges": lambda d: d["model"].pop("merges"),
    "a merge is not a pair": lambda d: d["model"].update(merges=[1]),
    "is not one of two tokens": lambda d: d["model"].update(merges=[["q", "q"]]),
    "not one of two tokens to": lambda d: d["model"].update(merges=[["a", "b", "c"]]),
    "the vocabulary is not an object": lambda d: d["model"].update(vocab=[["a", 0.5]]),
    "not an object of tokens and ids": lambda d: d["model"]["vocab"].update(a=True),
    "the ids of the tokens are not": lambda d: d["model"]["vocab"].update(a=-1),
    "the ids of the tokens are": lambda d: d["model"]["vocab"].update(a=10**19),
    "does not contain !": lambda d: d.update(
        added_tokens=[], model={"type": "BPE", "vocab": {"a": 0, EOS: 1}, "merges": []}
    ),
    "the added tokens are not": lambda d: d.update(added_tokens=["<pad>"]),
    "'▁x', which does not spell": lambda d: d["model"]["vocab"].update({"▁x": 280}),
    "normalizer changes the text": lambda d: d.update(normalizer={"type": "NFC"}),
    "add_prefix_space": lambda d: d["pre_tokenizer"].update(add_prefix_space=True),
    "use_regex": lambda d: d["pre_tokenizer"].update(use_regex=False),
    "pre_tokenizer is 'Split'": lambda d: d.update(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated"}
    ),
    "the pre_tokenizer is None": lambda d: d.pop("pre_tokenizer"),
    "the decoder is 'WordPiece'": lambda d: d.update(decoder={"type": "WordPiece"}),
    "the decoder is None": lambda d: d.pop("decoder"),
    "model.dropout: 0.1": lambda d: d["model"].update(dropout=0.1),
    "model.end_of_word_suffix: '</w>'": lambda d: d["model"].update(end_of_word_suffix="</w>"),
    "model.byte_fallback: True": lambda d: d["model"].update(byte_fallback=True),
    "model.ignore_merges: True": lambda d: d["model"].update(ignore_merges=True),
}


@pytest.mark.parametrize("problem", CHANGES)
def test_other_tokenizers_are_errors(problem: str, good: dict[str, Any], tmp_path: Path) -> None:
    document = copy.deepcopy(good)
    CHANGES[problem](document)
    path = write(tmp_path / "tokenizer.json", document)
    with pytest.raises(DataError) as caught:
        read_tokenizer_file(path)
    assert problem in str(caught.value)
    assert caught.value.where == str(path)
    assert "byte-level BPE" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "cannot be parsed"),
        (b"the\ncat\n", "cannot be parsed"),
        (b"[]", "not an object"),
        (b'{"model": ' * 100 + b"1" + b"}" * 100, "nested too deeply"),
        (b'{"a": [' + b"[]," * 10**6 + b"1]}", "too much memory"),
        (b'{"model": {"vocab": {"a": 0, "a": 1}}}', "twice"),
        (b'{"model": \xff}', "cannot be parsed"),
    ],
)
def test_files_that_are_not_json_objects(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem):
        read_tokenizer_file(path)


def test_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with path.open("wb") as file:
        file.truncate(100 * MAX_BYTES)
    with pytest.raises(DataError, match="larger than 32 MiB"):
        read_tokenizer_file(path)


def test_missing_file_and_directory_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(DataError):
            read_tokenizer_file(path)


def test_any_changed_value_is_read_or_an_error(good: dict[str, Any], tmp_path: Path) -> None:
    """Never a traceback, and never a library that cannot be built."""
    few = copy.deepcopy(good)
    others: tuple[Any, ...] = (None, True, -1, 2**70, 1.5, "x", "\x1b", [], {}, [[]], {"a": 1})
    for number, location in enumerate(list(locations(few))[::7]):
        document = copy.deepcopy(few)
        inner: Any = document
        for key in location[:-1]:
            inner = inner[key]
        inner[location[-1]] = others[number % len(others)]
        try:
            vocabulary = read_tokenizer_file(write(tmp_path / "tokenizer.json", document))
        except DataError:
            continue
        tokenizer = make_tokenizer("bpe", vocabulary)
        assert "".join(map(tokenizer.spelled, tokenizer.tokens_of(TEXT[0]))) == TEXT[0]


def test_corpus_takes_the_vocabulary_of_the_file(
    good: dict[str, Any], small_corpus: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "tokenizer.json", good)
    corpus = load_corpus(data_config(small_corpus, "bpe", vocabulary={"file": str(path)}))
    assert corpus.vocabulary.symbols == read_tokenizer_file(path).symbols
    assert sum(corpus.vocabulary.counts) == len(corpus.splits["train"].ids)
    assert (
        corpus.tokenizer.decode(corpus.splits["test"].ids)
        == (small_corpus / "test.txt").read_text()
    )
