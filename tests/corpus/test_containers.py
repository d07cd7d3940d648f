"""Containers: compressed texts are read, archives and documents are named."""

import bz2
import contextlib
import gzip
import io
import lzma
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptblm.corpus import containers
from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.source import read_content, read_file
from ptblm.errors import DataError
from tests.corpus.helpers import TOKENIZER_NAMES, data_config
from tests.in_process import mutated

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
        (gzip.compress(gzip.compress(TEXT, mtime=0), mtime=0), "compressed twice: a gzip file"),
        (gzip.compress(zip_archive(), mtime=0), "a zip archive, not text"),
        (b"%PDF-1.7\n" + TEXT, "a PDF file, not text"),
        (b"\x28\xb5\x2f\xfd" + TEXT, "a Zstandard file, not text"),
        (gzip.compress(TEXT, mtime=0)[:-9], "the gzip file is damaged or incomplete"),
        (
            gzip.compress(TEXT, mtime=0)[:200] + b"\xff" * 40,
            "the gzip file is damaged or incomplete",
        ),
        (bz2.compress(TEXT)[:-9], "the bzip2 file is damaged or incomplete"),
        (lzma.compress(TEXT)[:-9], "the xz file is damaged or incomplete"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
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


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lambda data: lzma.compress(data),
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "zlib": lambda data: zlib.compress(data, 9),
}
EMPTY_STREAMS = {"gzip": gzip.compress(b""), "bzip2": bz2.compress(b""), "xz": lzma.compress(b"")}


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_unpacked_size_is_bounded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded too: the text is unpacked piece by piece."""
    monkeypatch.setattr(containers, "MAX_UNPACKED_START", 10**6)
    path = tmp_path / "text"
    path.write_bytes(COMPRESSORS[kind](b"ab " * 4_000_000))
    tracemalloc.start()
    with pytest.raises(
        DataError, match=r"the \w+ file unpacks to more than [\d,]+ bytes"
    ) as caught:
        read_file(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 11_500_000  # less than the text
    assert caught.value.where == str(path)
    assert caught.value.hint == "unpack it first, if you trust its source"


@pytest.mark.parametrize("kind", ["xz", "lzma"])
def test_dictionary_that_needs_much_memory_is_rejected(kind: str) -> None:
    content = bytearray(COMPRESSED[kind])
    if kind == "lzma":
        content[1:5] = (0x6000_0000).to_bytes(4, "little")
    else:
        filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**27, "mf": lzma.MF_HC3, "depth": 1}]
        content = bytearray(lzma.compress(TEXT, filters=filters))
    with pytest.raises(DataError, match=f"the {kind} file needs more than 104,857,600 bytes"):
        read_content(bytes(content), "text")


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("padding", [0, 3, 512, 20_000])
def test_streams_and_padding_are_read(kind: str, padding: int) -> None:
    compress = COMPRESSORS[kind]
    zeros = bytes(padding // 4 * 4 if kind == "xz" else padding)
    content = b"".join(compress(part) + zeros for part in (TEXT[:700], b"", TEXT[700:]))
    assert read_content(content, "text").read() == TEXT


@pytest.mark.parametrize("content", COMPRESSED.values(), ids=COMPRESSED)
@pytest.mark.parametrize(
    "rest", [b"garbage", bytes(2**20 + 2**14) + b"x"], ids=["garbage", "too much padding"]
)
def test_bytes_after_the_content_are_damage(content: bytes, rest: bytes) -> None:
    with pytest.raises(DataError, match="is damaged or incomplete"):
        read_content(content + rest, "text")


@pytest.mark.parametrize("kind", EMPTY_STREAMS)
def test_endless_empty_streams_are_damage(kind: str) -> None:
    with pytest.raises(DataError, match="is damaged or incomplete"):
        read_content(EMPTY_STREAMS[kind] * 100_001, "text")


@given(data=st.data())
def test_mutated_compressed_text(data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(list(COMPRESSED.values())).flatmap(mutated))
    with contextlib.suppress(DataError):
        read_content(content, "text")
