"""Archives: tar with any compression are read, unsafe ones are rejected."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from ptblm.corpus.datasets.fetch import fetch
from ptblm.errors import DataError
from tests.corpus.datasets.small_ptb import (
    ARCHIVE,
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
        (b"PK\x03\x04" + ARCHIVE, "a zip file, not a tar archive"),
        (gzip.compress(b"text\n"), "not a tar archive, or damaged"),
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
    assert list((tmp_path / "ptb").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "ptb"]


def test_header_that_declares_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    """Tarfile reads as many bytes as the header of a long name declares."""
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 2**30
    (tmp_path / "long").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(DataError, match=r"unsafe archive: the header has 1,073,741,\d+ bytes"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "long")


def test_archive_with_too_many_members_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptblm.corpus.datasets.archive.MAX_MEMBERS", 3)
    (tmp_path / "many").write_bytes(ARCHIVE)
    with pytest.raises(DataError, match="more than 3 members"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "many")


def test_archive_that_unpacks_to_too_many_bytes_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptblm.corpus.datasets.archive.MAX_UNPACKED_SIZE", 10_000)
    (tmp_path / "bomb").write_bytes(make_archive({"zeros": bytes(20_000), **PUBLIC_LAYOUT}))
    with pytest.raises(DataError, match="unpacks to more than 10,000 bytes"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "bomb")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_archive_with_any_compression(tmp_path: Path, mode: str) -> None:
    (tmp_path / "archive").write_bytes(make_archive(PUBLIC_LAYOUT, mode))
    fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    assert_good(tmp_path / "ptb")
