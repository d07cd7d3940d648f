"""Prompts: how they are read, cleaned and encoded, and notes about them."""

import gzip
import io
import sys
from pathlib import Path

import pytest

from ptblm.config.data import DataConfig
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import DataError
from ptblm.run.prompts import encode_prompt, read_prompt_file, typed_prompt

TOKENS = {
    "word": ["<eos>", "<unk>", "the", "cat", "a", "b"],
    "char": ["<eos>", "<unk>", *"thecab "],
}


def tokenizer_of(name: str) -> Tokenizer:
    if name == "byte":
        return make_tokenizer(name)
    return make_tokenizer(name, Vocabulary(TOKENS[name], [1] * len(TOKENS[name])))


def encode(text: str, name: str = "word") -> str:
    """The prompt as the model reads it."""
    tokenizer = tokenizer_of(name)
    ids = encode_prompt(typed_prompt(text), tokenizer, DataConfig(tokenizer=name))  # type: ignore[arg-type]
    assert ids.ndim == 1
    return tokenizer.decode(ids)


@pytest.mark.parametrize("name", ["word", "char", "byte"])
@pytest.mark.parametrize(
    "text", ["", "the cat", "the cat\n", "the\n\na cat\n\n", "\n", "a b a b a b", "a\nb"]
)
def test_known_text_is_read_exactly(text: str, name: str, log: pytest.LogCaptureFixture) -> None:
    assert encode(text, name) == text
    assert not log.messages


def test_words_are_separated_by_white_space(log: pytest.LogCaptureFixture) -> None:
    assert encode("  the \t cat ") == "the cat"
    assert encode("  the cat \n \n") == "the cat\n\n"
    assert encode("the cat\r\na") == "the cat\na"
    assert log.messages == ["1 line ends were CR or CR LF; read as LF"]


def test_bytes_are_read_as_they_are() -> None:
    raw = b"\xff\r\n\0\xe2\x82".decode("utf-8", "surrogateescape")
    assert encode(raw, "byte") == raw


def test_unknown_tokens_are_listed(log: pytest.LogCaptureFixture) -> None:
    assert encode("the dog the dog ran") == "the <unk> the <unk> <unk>"
    assert encode("cat Cat") == "cat <unk>"
    assert encode("c d e f g h i j k") == " ".join(["<unk>"] * 9)
    assert encode("cat " + "x" * 1000) == "cat <unk>"
    assert encode("hat!", "char") == "hat<unk>"
    many = "9 of 9 words of the prompt are not in the vocabulary and become <unk>: c, d, e, f, g"
    assert log.messages == [
        "3 of 5 words of the prompt are not in the vocabulary and become <unk>: dog, ran",
        "1 of 2 words of the prompt is not in the vocabulary and becomes <unk>: Cat",
        f"{many}, and 4 more",
        "1 of 2 words of the prompt is not in the vocabulary and becomes <unk>: " + "x" * 40,
        "1 of 4 characters of the prompt is not in the vocabulary and becomes <unk>: !",
    ]


def test_unknown_token_of_a_closed_vocabulary_is_an_error() -> None:
    tokenizer = make_tokenizer("word", Vocabulary(["<eos>", "the"], [1, 1]))
    with pytest.raises(DataError, match="'cat' is not in the vocabulary") as caught:
        encode_prompt(typed_prompt("the\nthe cat"), tokenizer, DataConfig())
    assert caught.value.where == "the prompt:2"


def test_text_that_is_not_utf8_is_an_error() -> None:
    for text in ("caf\udce9", "a\0b"):
        with pytest.raises(DataError) as caught:
            encode(text)
        # `generate` cannot change the encoding or the tokenizer.
        assert "--" not in str(caught.value.hint)


def test_file_is_read_completely(tmp_path: Path) -> None:
    plain, compressed = tmp_path / "prompt.txt", tmp_path / "prompt.txt.gz"
    plain.write_bytes(b"the cat\nthe\n")
    compressed.write_bytes(gzip.compress(b"the cat\nthe\n"))
    for path in (plain, compressed):
        prompt = read_prompt_file(str(path))
        assert prompt.content == b"the cat\nthe\n"
        assert prompt.name == str(path)


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the cat")))
    prompt = read_prompt_file("-")
    assert (prompt.name, prompt.content) == ("standard input", b"the cat")


def test_file_that_is_too_large_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes(b"x" * 1001)
    monkeypatch.setattr("ptblm.run.prompts.MAX_BYTES", 1000)
    with pytest.raises(DataError, match="larger than 1,000 bytes"):
        read_prompt_file(str(path))
    path.write_bytes(b"x" * 1000)
    assert len(read_prompt_file(str(path)).content) == 1000


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_file_that_cannot_be_read_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_prompt_file(str(tmp_path / name))
