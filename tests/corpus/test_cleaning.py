"""Cleaning: line ends, byte order marks, sentence marks, spellings of the unknown word."""

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus import source as source_module
from ptblm.corpus.cleaning import clean
from ptblm.corpus.findings import notes
from ptblm.corpus.source import bytes_source
from ptblm.errors import DataError
from tests.corpus.helpers import data_config


def cleaned(content: bytes, tokenizer: str = "word", **keys: Any) -> tuple[bytes, list[str]]:
    """The cleaned text and its notes."""
    source, findings = clean(bytes_source("text", content), data_config("text", tokenizer, **keys))
    return source.read(), notes(findings)


@pytest.mark.parametrize("tokenizer", ["word", "char"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_are_alike(end: bytes, tokenizer: str) -> None:
    text, remarks = cleaned(b"the cat\n\n on mats \nlast".replace(b"\n", end), tokenizer)
    assert text == b"the cat\n\n on mats \nlast"
    expected = [] if end == b"\n" else ["3 line ends were CR or CR LF; read as LF"]
    assert remarks == expected


def test_mixed_line_ends() -> None:
    assert cleaned(b"a\rb\r\nc\n\rd")[0] == b"a\nb\nc\n\nd"


@given(st.binary(max_size=60).map(lambda raw: raw.replace(b"\0", b"")), st.integers(1, 40))
def test_cleaning_does_not_depend_on_block_size(raw: bytes, size: int) -> None:
    content = raw.decode("utf-8", "ignore").encode() + "\ufeff</s> a\r\n<s> <UNK> b\rc".encode()
    expected = cleaned(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "BLOCK_SIZE", size)
        assert cleaned(content) == expected


@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_byte_order_marks_are_removed_everywhere(tokenizer: str) -> None:
    text, remarks = cleaned("\ufeffthe cat\n\ufeffthe \ufeffmat\n".encode(), tokenizer)
    assert text == b"the cat\nthe mat\n"
    assert remarks == ["3 byte order marks (U+FEFF) removed"]


def test_zero_width_spaces_are_reported() -> None:
    text, remarks = cleaned("the\u200b cat\n".encode())
    assert text == "the\u200b cat\n".encode()
    assert "1 zero-width space (U+200B)" in remarks[0]


@pytest.mark.parametrize("tokenizer", ["word", "char"])
@pytest.mark.parametrize(
    ("marked", "bare"),
    [
        ("<s> a b </s>\n<s> c </s>\n", "a b\nc\n"),
        ("a b <eos>\nc <eos>\n", "a b\nc\n"),
        ("a b <eos> c <eos>\n", "a b\nc\n"),  # one line with many sentences
        ("<s> a b </s> <s> c </s>", "a b\nc"),  # without a newline at the end
        ("[CLS] a b [SEP] c [SEP]\n", "a b\nc\n"),
        ("a b\n<|endoftext|>\nc\n", "a b\nc\n"),  # a line of marks disappears
        ("a b.<|endoftext|>c d<|endoftext|>\n", "a b.\nc d\n"),  # attached to words
        ("<BOS> a b\n<bos> c\n", "a b\nc\n"),
        ("a b </s> </s>\n\nc <pad> <pad>\n", "a b\n\nc\n"),
        ("<s>a b</s>\n<s>c</s>\n", "a b\nc\n"),  # attached, at the ends of a line
        ("a <b> [c] <s>d</s> e\n", "a <b> [c] <s>d</s> e\n"),  # not separate words
    ],
)
def test_sentence_marks_are_dropped(marked: str, bare: str, tokenizer: str) -> None:
    text, remarks = cleaned(marked.encode(), tokenizer)
    assert text.decode() == bare
    assert bool(remarks) == (marked != bare)
    assert all("sentence marks were dropped: " in remark for remark in remarks)


def test_sentence_marks_can_be_kept_or_rejected() -> None:
    content = b"<s> a b </s>\n<s> c </s>\n"
    text, remarks = cleaned(content, marks="keep")
    assert text == content
    assert remarks[0].startswith("sentence marks are kept as tokens: 2 <s>, 2 </s>;")
    with pytest.raises(DataError, match=r"data\.marks rejects: 1 <\|endoftext\|>"):
        cleaned(b"a<|endoftext|>b\n", marks="reject")
    with pytest.raises(DataError, match=r"data\.marks rejects: 2 <s>, 2 </s>"):
        cleaned(content, marks="reject")
    assert cleaned(b"a b\n", marks="reject") == (b"a b\n", [])


@pytest.mark.parametrize("spelling", ["<UNK>", "[UNK]", "<oov>", "<OOV>", "<Unk>", "<unknown>"])
def test_unknown_word_has_many_spellings(spelling: str) -> None:
    text, remarks = cleaned(f"a {spelling} b\n{spelling}\n".encode())
    assert text == b"a <unk> b\n<unk>\n"
    assert remarks == [f"read as the unknown word <unk>: 2 {spelling}"]
    assert cleaned(f"a {spelling} b\n".encode(), "char")[1] == []


def test_word_that_may_be_the_unknown_word_is_reported() -> None:
    text, remarks = cleaned(b"a UNK b UNK\n")
    assert text == b"a UNK b UNK\n"
    assert "--set data.vocabulary.unk=UNK" in remarks[0]
    assert cleaned(b"a UNK b <unk>\n") == (b"a UNK b <unk>\n", [])
    text, remarks = cleaned(b"a UNK b UNK\n", vocabulary={"unk": "UNK"})
    assert text == b"a <unk> b <unk>\n"
    assert remarks == ["read as the unknown word <unk>: 2 UNK"]


@pytest.mark.parametrize(
    ("mark", "expected"), [("<START>", False), ("*BEGIN*", True), ("EOS", True), ("the", False)]
)
def test_token_at_nearly_all_line_ends_is_reported(mark: str, expected: bool) -> None:
    _, remarks = cleaned("".join(f"{mark} word{n} .\n" for n in range(50)).encode())
    assert any(f"nearly all lines begin or end with {mark}" in line for line in remarks) == expected
    # Also if the text has to be changed.
    _, remarks = cleaned("".join(f"{mark} word{n} .\r\n" for n in range(50)).encode())
    assert any(f"nearly all lines begin or end with {mark}" in line for line in remarks) == expected


def test_chosen_unknown_word_is_matched_exactly() -> None:
    text, remarks = cleaned(b"It X x <UNK> it\n", vocabulary={"unk": "X"})
    assert text == b"It <unk> x <unk> it\n"
    assert remarks == ["read as the unknown word <unk>: 1 X, 1 <UNK>"]


@pytest.mark.parametrize(
    "content", [b"a <unk> b\nN $ 's\n", "naïve «café» 今天\n".encode(), b"a <b>c</b> [d]\n"]
)
def test_clean_text_is_not_copied(content: bytes) -> None:
    source = bytes_source("text", content)
    assert clean(source, data_config("text"))[0] is source


def test_notes_about_many_marks_are_short() -> None:
    marks = ["".join(case) for case in product(*zip("<start>", "<START>", strict=True))]
    source = bytes_source("text", "".join(f"{mark} a b\n" for mark in marks).encode())
    (note,) = notes(clean(source, data_config("text"))[1])
    assert "and 20 more" in note
    assert len(note) < 400
