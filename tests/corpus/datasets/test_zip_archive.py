"""Zip archives: hostile and damaged ones are rejected before anything is written."""

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from ptblm.corpus.datasets import archive as archive_module
from ptblm.corpus.datasets import zip_archive
from ptblm.corpus.datasets.fetch import fetch
from ptblm.errors import DataError
from tests.corpus.datasets.small_corpora import make_zip
from tests.corpus.datasets.small_ptb import CONTENT, DATASET, PUBLIC_LAYOUT, assert_good

GOOD = make_zip(PUBLIC_LAYOUT)


def with_member(name: str, mode: int = 0, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A good archive with one more member at its end."""
    buffer = io.BytesIO(GOOD)
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr, info.compress_type = mode << 16, method
        archive.writestr(info, b"content")
    return buffer.getvalue()


def with_flag(flag: int) -> bytes:
    """A good archive whose first entry in the list has a flag."""
    at = GOOD.index(b"PK\1\2") + 8
    return GOOD[:at] + struct.pack("<H", flag) + GOOD[at + 2 :]


def with_flipped_bit() -> bytes:
    at = GOOD.index(b"PK\3\4", 10) - 3  # in the compressed content of the first member
    return GOOD[:at] + bytes([GOOD[at] ^ 1]) + GOOD[at + 1 :]


END = GOOD.rindex(b"PK\5\6")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_member("/etc/ptblm"), "is outside the archive"),
        (with_member("../ptblm"), "is outside the archive"),
        (with_member("data/../../ptblm"), "is outside the archive"),
        (with_member("C:/ptblm"), "is outside the archive"),
        (with_member("link", stat.S_IFLNK | 0o777), "is a link or a device"),
        (with_member("pipe", stat.S_IFIFO | 0o600), "is a link or a device"),
        (with_member("packed", method=zipfile.ZIP_LZMA), "compressed in an unusual way"),
        (with_flag(1), "is encrypted"),
        (GOOD[: len(GOOD) // 2], "damaged: it ended early"),
        (GOOD[:END] + GOOD[END:-1], "damaged: it ended early"),
        (with_flipped_bit(), "not a zip archive, or damaged"),
        (GOOD[: END + 12] + b"\xff" * 4 + GOOD[END + 16 :], "a list of more than"),
        (GOOD[:END] + b"PK\6\7" + bytes(16) + GOOD[END:], "a list of more than"),
        (make_zip({"other.txt": b"x"}), "contains none of"),
    ],
    ids=range(14),
)
def test_hostile_and_damaged_archives_are_rejected(
    content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / "archive").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    assert caught.value.where == str(tmp_path / "archive")
    assert caught.value.what.isprintable()
    assert not list(tmp_path.glob("ptb/*"))


def test_archive_that_unpacks_to_too_much_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb").write_bytes(make_zip({"zeros": bytes(9_000), **PUBLIC_LAYOUT}))
    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "MAX_SIZE", 10_000)
        with pytest.raises(DataError, match="unpacks to more than 10,000 bytes"):
            fetch(DATASET, tmp_path / "ptb", source=tmp_path / "bomb")
    monkeypatch.setattr(zip_archive, "MAX_HEADERS", 3)
    with pytest.raises(DataError, match="more than 3 files"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "bomb")


def test_files_are_found_by_name_and_size(tmp_path: Path) -> None:
    members = {"docs/ptb.test.txt": b"about this file", "data/": b"", **PUBLIC_LAYOUT}
    (tmp_path / "archive").write_bytes(make_zip(members))
    result = fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    assert result.verified == list(CONTENT)
    assert_good(tmp_path / "ptb")
