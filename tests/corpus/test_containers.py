"""Containers: compressed texts are read, archives and documents are named."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.source import read_content
from ptblm.errors import DataError
from tests.corpus.helpers import TOKENIZER_NAMES, data_config

TEXT = "".join(f"line {n % 7} of the <unk> naïve text\n" for n in range(200)).encode()
COMPRESSED = {
    "gz": gzip.compress(TEXT),
    "bz2": bz2.compress(TEXT),
    "xz": lzma.compress(TEXT),
    "lzma": lzma.compress(TEXT, format=lzma.FORMAT_ALONE),
    "zlib": zlib.compress(TEXT),
    "two members.gz": gzip.compress(TEXT[:700]) + gzip.compress(TEXT[700:]),
}


def zip_archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("text.txt", TEXT)
    return file.getvalue()


def tar_archive(mode: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:  # type: ignore[call-overload]
        member = tarfile.TarInfo("text.txt")
        member.size = len(TEXT)
        archive.addfile(member, io.BytesIO(TEXT))
    return file.getvalue()


def old_tar_archive() -> bytes:
    """An archive whose header has no signature."""
    header = bytearray(tar_archive("w"))
    header[257:265] = bytes(8)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


@pytest.mark.parametrize("tokenizer", TOKENIZER_NAMES)
@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_text_equals_its_content(kind: str, tokenizer: str, tmp_path: Path) -> None:
    plain, compressed = tmp_path / "text.txt", tmp_path / "any name"
    plain.write_bytes(TEXT)
    compressed.write_bytes(COMPRESSED[kind])
    ours = load_corpus(data_config(plain, tokenizer))
    theirs = load_corpus(data_config(compressed, tokenizer))
    assert ours.vocabulary.tokens == theirs.vocabulary.tokens
    assert ours.sha256() == theirs.sha256()
    for split, text in ours.splits.items():
        assert np.array_equal(text.ids, theirs.splits[split].ids)
    assert [note[:12] for note in theirs.notes] == [*ours.notes, "decompressed"]


@pytest.mark.parametrize("tokenizer", TOKENIZER_NAMES)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zip_archive(), "a zip archive, not text"),
        (tar_archive("w"), "a tar archive, not text"),
        (tar_archive("w:gz"), "a tar archive, not text"),
        (old_tar_archive(), "a tar archive, not text"),
        (gzip.compress(gzip.compress(TEXT)), "compressed twice: a gzip file"),
        (gzip.compress(zip_archive()), "a zip archive, not text"),
        (b"%PDF-1.7\n" + TEXT, "a PDF file, not text"),
        (b"\x28\xb5\x2f\xfd" + TEXT, "a Zstandard file, not text"),
        (gzip.compress(TEXT)[:-9], "the gzip file is damaged or incomplete"),
        (gzip.compress(TEXT)[:200] + b"\xff" * 40, "the gzip file is damaged or incomplete"),
        (bz2.compress(TEXT)[:-9], "the bzip2 file is damaged or incomplete"),
        (lzma.compress(TEXT)[:-9], "the xz file is damaged or incomplete"),
    ],
)
def test_other_files_are_named(
    content: bytes, message: str, tokenizer: str, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_corpus(data_config(path, tokenizer))
    assert caught.value.where == str(path)
    assert caught.value.hint
    with pytest.raises(DataError, match=message):
        read_content(content, "standard input")


def test_raw_format_reads_compressed_bytes(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(COMPRESSED["gz"])
    corpus = load_corpus(data_config(path, "byte", format="raw"))
    size = sum(len(text.ids) for text in corpus.splits.values())
    assert size == len(COMPRESSED["gz"])


@pytest.mark.parametrize("content", [b"PKs are here\n", b"BZh is a word\n", b"7z\n"])
def test_text_that_resembles_a_signature(content: bytes) -> None:
    assert read_content(content, "text").read() == content
