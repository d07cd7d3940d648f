"""Forms: characters and byte values separated by spaces are recognized by their content."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus import source as source_module
from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.datasets.ptb import PTB
from ptblm.corpus.forms import form_of, plain_text
from ptblm.corpus.source import bytes_source
from ptblm.errors import DataError
from tests.corpus.helpers import data_config

PLAIN = "".join(f"line {n % 7} of the naïve text\n\n" for n in range(60))


def spaced(text: str, start: str = "", end: str = "") -> bytes:
    lines = [" ".join(line.replace(" ", "_")) for line in text.split("\n")]
    return "\n".join(line and start + line + end for line in lines).encode()


def values(text: str) -> bytes:
    return "\n".join(" ".join(map(str, line.encode())) for line in text.split("\n")).encode()


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
@pytest.mark.parametrize(
    ("content", "form"),
    [
        (spaced(PLAIN), "spaced_characters"),
        (spaced(PLAIN, start=" ", end=" "), "spaced_characters"),
        (spaced(PLAIN.replace("\n", " ")), "spaced_characters"),  # one line
        (values(PLAIN), "byte_values"),
        (values(PLAIN).replace(b"\n", b" \n "), "byte_values"),
        (values(PLAIN).replace(b"\n", b" 10 "), "byte_values"),
    ],
)
@pytest.mark.parametrize("name", ["text.txt", "ptb.char.train.txt", "train"])
def test_form_is_read_from_the_content(
    content: bytes, form: str, tokenizer: str, name: str, tmp_path: Path
) -> None:
    expected = (
        PLAIN.replace("\n", " ") if b"\n" not in content and b" 10 " not in content else PLAIN
    )
    (tmp_path / "plain").write_text(expected)
    (tmp_path / name).write_bytes(content)
    ours = load_corpus(data_config(tmp_path / "plain", tokenizer))
    theirs = load_corpus(data_config(tmp_path / name, tokenizer))
    assert ours.vocabulary.tokens == theirs.vocabulary.tokens
    for split, text in ours.splits.items():
        assert np.array_equal(text.ids, theirs.splits[split].ids)
    assert ours.notes == []
    assert "data.format: plain" in theirs.notes[0]
    explicit = load_corpus(data_config(tmp_path / name, tokenizer, format=form))
    assert explicit.sha256() == theirs.sha256()
    assert explicit.notes == []
    as_it_is = load_corpus(data_config(tmp_path / name, tokenizer, format="plain"))
    assert sum(len(text.ids) for text in as_it_is.splits.values()) > 1.5 * len(expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b"_", b"<space>"),
        lambda raw: raw.replace(b"_", "\u2581".encode()),
        lambda raw: raw.replace(b"_", b" "),  # three spaces
        lambda raw: raw.replace(b" ", b"\t"),
        lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"),
    ],
    ids=["<space>", "U+2581", "three spaces", "tabs", "Windows"],
)
@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_other_separators(change: Callable[[bytes], bytes], tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text(PLAIN)
    (tmp_path / "text").write_bytes(change(spaced(PLAIN)))
    ours, theirs = (load_corpus(data_config(tmp_path / n, tokenizer)) for n in ("plain", "text"))
    assert ours.sha256() == theirs.sha256()


def test_units_and_exceptions_in_spaced_characters(tmp_path: Path) -> None:
    text = spaced(PLAIN).replace(b"t e x t", b"<unk>")
    (tmp_path / "text").write_bytes(text)
    (tmp_path / "plain").write_bytes(PLAIN.replace("text", "<unk>").encode())
    ours, theirs = (load_corpus(data_config(tmp_path / n, "char")) for n in ("plain", "text"))
    assert ours.sha256() == theirs.sha256()
    (tmp_path / "text").write_bytes(b"a title\n" + text)
    (note,) = load_corpus(data_config(tmp_path / "text", "char")).notes
    assert "--set data.format=spaced_characters" in note


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_byte_values_one_per_line(tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text(PLAIN)
    (tmp_path / "text").write_bytes(b"\n".join(str(byte).encode() for byte in PLAIN.encode()))
    ours, theirs = (load_corpus(data_config(tmp_path / n, tokenizer)) for n in ("plain", "text"))
    assert ours.sha256() == theirs.sha256()


def test_lines_of_numbers_are_read_in_linear_time(tmp_path: Path) -> None:
    """A pattern with ambiguous repetitions would take longer than the age of the universe."""
    (tmp_path / "text").write_text(("11 17 13 19 14 " * 20 + "\n") * 50 + "total 99\n")
    assert load_corpus(data_config(tmp_path / "text", "byte")).notes == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a b c",  # too short to be certain
        b"\n" * 100,
        b"a\nb\nc\n" * 20,  # one character per line has no spaces
        b"a b c d e f g h i j ab\n",
        b"a  b " * 20,
        b"12 99 14 2 77 10 14 2 61\n" * 20,  # numbers, but not of a text
        b"300 116 104 101 32 99 97 116 " * 5,
        PLAIN.encode(),
    ],
)
def test_other_texts_are_plain(content: bytes) -> None:
    assert form_of(bytes_source("text", content)) == "plain"


@given(
    st.text(st.characters(exclude_categories=("Cs", "Zs", "Cc")), min_size=12), st.integers(1, 9)
)
def test_spaced_characters_in_blocks_of_any_size(text: str, size: int) -> None:
    text = text.replace("_", "-").replace("\u2028", "-").replace("\u2029", "-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "BLOCK_SIZE", size)
        source = bytes_source("text", " ".join(text).encode())
        assert form_of(source) == "spaced_characters"
        assert plain_text(source, "spaced_characters").read().decode() == text


def test_words_of_single_characters_are_reported(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(spaced(PLAIN))
    corpus = load_corpus(data_config(tmp_path / "text"))
    assert "--tokenizer char" in corpus.notes[0]
    words = load_corpus(data_config(tmp_path / "text", format="spaced_characters"))
    assert "naïve" in words.vocabulary.ids


def test_splits_have_one_form(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_bytes(spaced(PLAIN))
    (tmp_path / "test.txt").write_text(PLAIN)
    with pytest.raises(DataError, match="different forms: train") as caught:
        load_corpus(data_config(tmp_path, "char"))
    assert "data.format" in str(caught.value.hint)


def test_wrong_form_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text").write_text(PLAIN)
    with pytest.raises(DataError, match="does not consist of decimal values of bytes"):
        load_corpus(data_config(tmp_path / "text", "byte", format="byte_values"))


@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_byte_values_of_other_files_are_not_text(tokenizer: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"200 97 32 98 32\n" * 100)
    keys = {} if tokenizer == "char" else {"format": "byte_values"}
    with pytest.raises(DataError, match="not those of a UTF-8 text") as caught:
        load_corpus(data_config(tmp_path / "text", tokenizer, **keys))
    assert caught.value.hint == "use --tokenizer byte"
    load_corpus(data_config(tmp_path / "text", "byte"))


def test_spaced_characters_need_spaces(tmp_path: Path) -> None:
    (tmp_path / "text").write_text(PLAIN)
    with pytest.raises(DataError, match="does not consist of characters separated by spaces"):
        load_corpus(data_config(tmp_path / "text", "char", format="spaced_characters"))


def test_text_in_a_special_form_is_cleaned_like_plain_text(tmp_path: Path) -> None:
    text = "".join(f"<s> line {n % 7} of text </s>\r\n" for n in range(60))
    for name, content in (("plain", text.encode()), ("values", values(text))):
        (tmp_path / name).write_bytes(content)
    ours, theirs = (load_corpus(data_config(tmp_path / n, "char")) for n in ("plain", "values"))
    assert ours.sha256() == theirs.sha256()
    assert ours.notes == theirs.notes[1:]


def test_penn_treebank_is_recognized_under_any_name(ptb_directory: Path, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").symlink_to(ptb_directory / f"ptb.char.{split}.txt")
    ours = load_corpus(data_config(ptb_directory, "char"))
    theirs = load_corpus(data_config(tmp_path, "char"))
    assert ours.sha256() == theirs.sha256()
    assert len(theirs.splits["test"].ids) == 442_423
    assert "ptb.char.test.txt of the Penn Treebank" in theirs.notes[0]
    assert PTB.files["ptb.char.test.txt"].size == (tmp_path / "test.txt").stat().st_size
