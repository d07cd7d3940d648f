"""Encodings: conversion to UTF-8, and messages that name the probable encoding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptblm.config.data import DataConfig
from ptblm.config.loading import load_config
from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.encodings import to_utf8
from ptblm.corpus.findings import Findings
from ptblm.corpus.lines import read_lines
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import ConfigError, DataError
from tests.corpus.helpers import TOKENIZER_NAMES, data_config

TEXT = "".join(f"the naïve café no. {n} was “open”.\nÜber alles — ok\n" for n in range(40))
CHINESE = "他说今天天气很好。 我们去公园吧。\n" * 40
RUSSIAN = (
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u0434\u0435\u043b\u0430? \u0412\u0441\u0451.\n" * 40
)


@pytest.mark.parametrize("tokenizer", ["word", "char"])
@pytest.mark.parametrize(
    ("encoding", "key"),
    [("utf-16", None), ("utf-32", None), ("utf-8-sig", None), ("cp1252", "cp1252")]
    + [(name, name) for name in ("utf-16-le", "utf-16-be", "utf-32-le")],
)
def test_any_encoding_gives_the_ids_of_utf8(
    encoding: str, key: str | None, tokenizer: str, tmp_path: Path
) -> None:
    corpora = []
    for name, raw, chosen in (("a", TEXT.encode(), None), ("b", TEXT.encode(encoding), key)):
        path = tmp_path / name
        path.write_bytes(raw)
        corpora.append(load_corpus(data_config(path, tokenizer, encoding=chosen)))
    ours, theirs = corpora
    assert ours.vocabulary.tokens == theirs.vocabulary.tokens
    for split, text in ours.splits.items():
        assert np.array_equal(text.ids, theirs.splits[split].ids)
    assert any(note.startswith(("converted from", "1 byte order mark")) for note in theirs.notes)


@pytest.mark.parametrize(
    ("raw", "name", "key"),
    [
        (TEXT.encode("utf-16-le"), "UTF-16LE", "utf-16-le"),
        (TEXT.encode("utf-16-be"), "UTF-16BE", "utf-16-be"),
        (TEXT.encode("utf-32-be"), "UTF-32BE", "utf-32-be"),
        (CHINESE.encode("utf-16-le"), "UTF-16LE", "utf-16-le"),
        (RUSSIAN.encode("utf-16-be"), "UTF-16BE", "utf-16-be"),
        (TEXT.encode("cp1252"), "Windows-1252", "cp1252"),
        ("naïve café\nab\n".encode("latin-1") * 40, "Latin-1", "latin-1"),
        (CHINESE.encode("gb18030"), "not a Western European one", "gb18030"),
        (RUSSIAN.encode("koi8-r"), "not a Western European one", "koi8-r"),
    ],
)
@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_error_names_the_probable_encoding(
    raw: bytes, name: str, key: str, tokenizer: str, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(raw)
    with pytest.raises(DataError, match="not UTF-8") as caught:
        load_corpus(data_config(path, tokenizer))
    assert name in caught.value.what
    assert key in str(caught.value.hint)
    assert "data.encoding" in str(caught.value.hint)
    load_corpus(data_config(path, tokenizer, encoding=key))


def test_invalid_byte_in_utf8_is_located(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(CHINESE.encode() + b"ab \xff c\n" + CHINESE.encode())
    with pytest.raises(DataError, match=r"byte 4 of the line\); it is mostly UTF-8") as caught:
        load_corpus(data_config(path))
    assert caught.value.where == f"{path}:41"
    assert "iconv -c -f UTF-8" in str(caught.value.hint)


@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_zero_bytes_are_located(tokenizer: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"the cat\nsat \0 on\n" * 30)
    with pytest.raises(DataError, match="30 zero bytes") as caught:
        load_corpus(data_config(path, tokenizer))
    assert caught.value.where == f"{path}:2"
    assert load_corpus(data_config(path, "byte")).vocabulary.counts[0] == 27


def test_wrong_encoding_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    with pytest.raises(DataError, match="not ascii text: byte 7"):
        load_corpus(data_config(path, encoding="ascii"))
    with pytest.raises(DataError, match="not undefined text"):  # a codec that always fails
        load_corpus(data_config(path, encoding="undefined"))


@pytest.mark.parametrize("actual", ["utf-16-le", "utf-16-be", "utf-32-be"])
def test_byte_order_is_found_without_a_mark(actual: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text(TEXT)
    (tmp_path / "text").write_bytes(TEXT.encode(actual))
    ours = load_corpus(data_config(tmp_path / "plain"))
    assert (
        load_corpus(data_config(tmp_path / "text", encoding=actual[:6])).sha256() == ours.sha256()
    )


def test_byte_tokenizer_names_utf16(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(TEXT.encode("utf-16"))
    (note,) = load_corpus(data_config(tmp_path / "text", "byte")).notes
    assert "utf-16-le; the byte tokenizer reads its bytes as they are" in note


@pytest.mark.parametrize("value", ["utf-9", "base64", "\0", "punycode", "unicode_escape", "idna"])
def test_unknown_encoding_is_a_config_error(value: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.encoding: expected an encoding"):
        load_config("small", flags={"data.encoding": value})


@pytest.mark.parametrize("tokenizer", TOKENIZER_NAMES)
def test_encoding_needs_text(tokenizer: str) -> None:
    keys: dict[str, Any] = {"data.encoding": "latin-1", "data.tokenizer": tokenizer}
    if tokenizer == "byte":
        with pytest.raises(ConfigError, match="cannot be used with tokenizer byte"):
            load_config("small", flags=keys)
    else:
        assert load_config("small", flags=keys).data.encoding == "latin-1"


@pytest.mark.parametrize("text", ["the cat\nthe dog\n", "cat\n"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_byte_order_does_not_depend_on_pieces_of_a_pipe(encoding: str, text: str) -> None:
    """It is recognized as in `to_utf8`; that of a short text is the machine's."""
    content, name = text.encode(encoding), encoding[:6]
    pieces = (content[start : start + 3] for start in range(0, len(content), 3))
    tokenizer = make_tokenizer("word", Vocabulary(["<unk>", "<eos>", "the"], [1, 1, 1]))
    lines = read_lines(pieces, "pipe", tokenizer, DataConfig(encoding=name), Findings())
    try:
        expected = to_utf8(content, name, "pipe").decode().split("\n")
    except DataError:  # invalid in the byte order of the machine
        with pytest.raises(DataError, match=f"not {name}"):
            list(lines)
    else:
        assert [line.text for line in lines] == [line for line in expected if line]
