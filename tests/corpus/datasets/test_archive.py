"""Archives: tar with any compression are read, unsafe ones are rejected."""

import gzip
import io
import lzma
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ptblm.corpus import containers
from ptblm.corpus.datasets.fetch import fetch
from ptblm.errors import DataError
from tests.corpus.datasets.small_ptb import (
    ARCHIVE,
    CONTENT,
    DATASET,
    PUBLIC_LAYOUT,
    assert_good,
    make_archive,
)


def hostile(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    """A good archive with one more member at its end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for good_name, data in PUBLIC_LAYOUT.items():
            info = tarfile.TarInfo(good_name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = target
        archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (hostile("/etc/ptblm"), "is outside the archive"),
        (hostile("../ptblm"), "is outside the archive"),
        (hostile("data/../../ptblm"), "is outside the archive"),
        (hostile("..\\ptblm"), "is outside the archive"),
        (hostile("C:/ptblm"), "is outside the archive"),
        (hostile("link", tarfile.SYMTYPE, "/etc/passwd"), "link or a device"),
        (hostile("link", tarfile.LNKTYPE, "simple-examples/data/ptb.train.txt"), "link"),
        (hostile("pipe", tarfile.FIFOTYPE), "link or a device"),
        (ARCHIVE[: len(ARCHIVE) // 2], "damaged|ended"),
        (b"", "not a tar archive"),
        (b"PK\x03\x04" + ARCHIVE, "not a zip archive, or damaged"),
        (gzip.compress(b"text\n", mtime=0), "not a tar archive, or damaged"),
        (make_archive({"other.txt": b"x"}), "contains none of"),
    ],
    ids=range(13),
)
def test_unsafe_and_damaged_archives_are_rejected(
    tmp_path: Path, archive: bytes, message: str
) -> None:
    (tmp_path / "archive").write_bytes(archive)
    with pytest.raises(DataError, match=message):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_header_that_declares_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    """Tarfile reads as many bytes as the header of a long name declares."""
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 2**30
    (tmp_path / "long").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(DataError, match="unsafe archive: headers of 1,073,741,824 bytes"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "long")


def test_archive_with_too_many_members_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptblm.corpus.datasets.archive.MAX_HEADERS", 3)
    (tmp_path / "many").write_bytes(ARCHIVE)
    with pytest.raises(DataError, match="more than 3 headers"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "many")


def test_archive_that_unpacks_to_too_many_bytes_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptblm.corpus.datasets.archive.MAX_SIZE", 10_000)
    (tmp_path / "bomb").write_bytes(make_archive({"zeros": bytes(9_000), **PUBLIC_LAYOUT}))
    with pytest.raises(DataError, match="unpacks to more than 10,000 bytes"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "bomb")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archive_with_any_compression(tmp_path: Path, mode: str) -> None:
    (tmp_path / "archive").write_bytes(make_archive(PUBLIC_LAYOUT, mode))
    fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    assert_good(tmp_path / "ptb")


def header(kind: bytes = tarfile.REGTYPE, size: int = 0, name: str = "a", **fields: bytes) -> bytes:
    """A header with a correct checksum; `fields` replace its bytes at an offset, as in `at_124`."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    for place, value in fields.items():
        start = int(place.removeprefix("at_"))
        block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records: bytes, kind: bytes = tarfile.XHDTYPE) -> bytes:
    return header(kind, len(records)) + records + bytes(-len(records) % 512)


def long_name(name: bytes, kind: bytes = tarfile.GNUTYPE_LONGNAME) -> bytes:
    return header(kind, len(name)) + name + bytes(-len(name) % 512)


ONE_RECORD = b"11 path=aa\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pax(ONE_RECORD) * 3000, "more than 16 headers of one file"),
        (pax(ONE_RECORD, tarfile.XGLTYPE) * 3000, "more than 16 headers of one file"),
        (long_name(b"n") * 3000, "more than 16 headers of one file"),
        (long_name(b"n", tarfile.GNUTYPE_LONGLINK) * 3000, "more than 16 headers of one file"),
        ((pax(ONE_RECORD) + long_name(b"n")) * 1500, "more than 16 headers of one file"),
        ((pax(ONE_RECORD) + header()) * 6000, "more than 10,000 headers"),
        (header() * 11_000, "more than 10,000 headers"),
        (long_name(b"n" * 5000) + header(), "a name of 5,000 bytes"),
        (pax(b"5011 path=" + b"n" * 5000 + b"\n") + header(), "a name of 5,000 bytes"),
        (long_name(b"n" * 2**22) * 2 + header(), "headers of 8,388,608 bytes"),
        (header(at_124=b"-0000000001\0"), "a number in a header is invalid"),
        (header(at_124=b"\xff" * 12), "a number in a header is invalid"),
        (header(at_124=b"99999999999\0"), "a number in a header is invalid"),
        (header(at_124=b"\x80" + b"\xff" * 11), "unpacks to more than"),
        (header(size=2**32), "unpacks to more than"),
        (header(size=2**20), "it ended early"),
        (header(at_124=b"0x10\0"), "a number in a header is invalid"),
        (header(at_124=b"1_000\0"), "a number in a header is invalid"),
        (pax(b"11 size=-5\n") + header(), "a number in a header is invalid"),
        (pax(b"117 size=" + b"9" * 107 + b"\n") + header(), "a number in a header is invalid"),
        (pax(b"0 size=1\n") + header(), "a pax header is invalid"),
        (pax(b"9" * 400 + b" size=1\n") + header(), "a pax header is invalid"),
        (pax(b"99 size=1\n") + header(), "a pax header is invalid"),
        (pax(b"7 size\n") + header(), "a pax header is invalid"),
        (pax(b"21 GNU.sparse.map=1,\n") + header(tarfile.GNUTYPE_SPARSE), "a link or a device"),
        (header(b"V"), "a link or a device"),
        (header(size=1) + b"short", "it ended early"),
        (header() + b"\xff" * 512, "a number in a header is invalid"),
        (header() + header()[:511] + b"x", "the checksum of a header is wrong"),
    ],
    ids=range(29),
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["tar", "tgz"])
def test_hostile_headers_are_rejected(
    content: bytes, message: str, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "archive").write_bytes(compress(content))
    with pytest.raises(DataError, match=message) as caught:
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    assert caught.value.where == str(tmp_path / "archive")
    assert "\n" not in caught.value.what
    assert len(caught.value.what) < 200
    assert caught.value.hint


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_archives_of_all_formats_with_long_names(tmp_path: Path, tar_format: int) -> None:
    folder = "ordner-mit-langem-namen/" * (5 if tar_format == tarfile.USTAR_FORMAT else 20)
    with tarfile.open(tmp_path / "archive", "w", format=tar_format) as archive:
        for name, data in CONTENT.items():
            info = tarfile.TarInfo(folder + name)
            info.size, info.mtime = len(data), 1.5
            info.pax_headers = {"comment": "ä\n" * 9}
            archive.addfile(info, io.BytesIO(data))
    fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    assert_good(tmp_path / "ptb")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_compressed_archive_unpacks_to_a_multiple_of_its_size(
    tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "MAX_UNPACKED_START", 100_000)
    (tmp_path / "bomb").write_bytes(make_archive({"zeros": bytes(2**20)}, mode))
    with pytest.raises(DataError, match=r"the \w+ file unpacks to more than [\d,]+ bytes"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "bomb")


def test_archive_that_needs_much_memory_is_rejected(tmp_path: Path) -> None:
    packed = bytearray(lzma.compress(make_archive(PUBLIC_LAYOUT, "w"), lzma.FORMAT_ALONE))
    packed[1:5] = (0x6000_0000).to_bytes(4, "little")  # size of the dictionary
    (tmp_path / "archive").write_bytes(packed)
    with pytest.raises(DataError, match="needs more than 104,857,600 bytes of memory"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to a pipe"])
def test_source_that_is_no_regular_file_is_never_read(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    if kind == "pipe":
        os.mkfifo(source)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(source))
    elif kind == "device":
        source = Path("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        source.symlink_to("pipe")
    with pytest.raises(DataError, match="cannot be read: ") as caught:
        fetch(DATASET, tmp_path / "ptb", source=source)
    assert caught.value.where == str(source)


def test_archive_without_the_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.tar").write_bytes(make_archive({"other.txt": b"x"}))
    with pytest.raises(DataError, match=r"contains none of ptb\.train\.txt, ") as caught:
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "other.tar")
    assert caught.value.where == str(tmp_path / "other.tar")
    assert "pass the public simple-examples.tgz" in str(caught.value.hint)
