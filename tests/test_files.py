"""Files: errors of the operating system, files and directories of others, atomic writes."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ptblm.errors import DataError
from ptblm.files import (
    make_private_directory,
    open_regular,
    os_errors,
    remove_temporary_files,
    replacing,
    write_text,
)


def test_error_of_the_system_has_a_path_and_advice() -> None:
    with pytest.raises(DataError) as caught, os_errors(DataError, hint="or pass another"):
        raise OSError(errno.EACCES, "Permission denied", "a.txt.0123abcd.part")
    assert str(caught.value) == (
        "cannot be read: Permission denied\n"
        "  at: a.txt\n"
        "  hint: check the permissions of the path; or pass another"
    )


def test_another_path_is_not_suggested_if_it_would_not_help() -> None:
    with pytest.raises(DataError) as caught, os_errors(DataError, hint="pass another"):
        raise OSError(errno.EMFILE, "Too many open files")
    assert caught.value.hint == "raise the limit of open files (`ulimit -n`)"


def test_descriptor_is_not_a_path() -> None:
    with pytest.raises(DataError) as caught, os_errors(DataError, fallback="a.txt"):
        raise OSError(errno.EIO, "Input/output error", 7)
    assert caught.value.where == "a.txt"


def make_link(path: Path) -> None:
    path.with_name("real").write_text("text")
    path.symlink_to("real")


def make_hard_link(path: Path) -> None:
    path.with_name("real").write_text("text")
    os.link(path.with_name("real"), path)


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_only_regular_files_are_opened(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "a")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "a")


@pytest.mark.parametrize("make", [make_link, make_hard_link])
def test_private_file_is_not_a_link(make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / "a")
    with open_regular(tmp_path / "a") as file:
        assert file.read() == b"text"
    with pytest.raises(OSError, match="link"):
        open_regular(tmp_path / "a", private=True)


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def check(_: Path) -> None:
        raise ValueError("bad")

    with pytest.raises(ValueError, match="bad"), replacing(path, check) as file:
        file.write(b"new")
    with pytest.raises(ValueError, match="bad"), replacing(path) as file:
        raise ValueError("bad")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    make_link(tmp_path / "a")
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "real").read_text() == "text"


def test_only_temporary_files_of_known_names_are_removed(tmp_path: Path) -> None:
    others = {"a.json", "a.json.part", "a.json.0123abcd.part.txt", "thesis.0123abcd.part"}
    for name in ("a.json.0123abcd.part", *others):
        (tmp_path / name).touch()
    remove_temporary_files(tmp_path, r"a\.json")
    assert {path.name for path in tmp_path.iterdir()} == others


def test_private_directory_and_its_new_parents(tmp_path: Path) -> None:
    make_private_directory(tmp_path / "a" / "b")
    (tmp_path / "a" / "b").chmod(0o777)
    make_private_directory(tmp_path / "a" / "b")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")]
    assert modes == [0o700, 0o700]
    (tmp_path / "c").symlink_to("a")
    with pytest.raises(OSError, match="a link"):
        make_private_directory(tmp_path / "c")
