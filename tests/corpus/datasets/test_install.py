"""Installs from local files: found, verified, never over a file of the user."""

import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ptblm.corpus.datasets import DATASETS
from ptblm.corpus.datasets.fetch import fetch
from ptblm.errors import DataError
from tests.conftest import Ptblm
from tests.corpus.datasets.small_ptb import ARCHIVE, CONTENT, DATASET, assert_good, write_files
from tests.unprivileged import Unprivileged


@pytest.mark.parametrize("folder", [".", "data", "simple-examples/data"])
def test_local_directory(tmp_path: Path, folder: str) -> None:
    source = tmp_path / "source" / folder
    source.mkdir(parents=True)
    for name, data in CONTENT.items():
        (source / name).write_bytes(data)
    fetch(DATASET, tmp_path / "ptb", source=tmp_path / "source")
    assert_good(tmp_path / "ptb")


def link_to_other_text(path: Path) -> None:
    (path.parent / "other").write_text("mine\n")
    path.symlink_to("other")


OTHER_FILES: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_text("mine\n"),
    "empty": lambda path: path.touch(),
    "same size": lambda path: path.write_bytes(b"x" * len(CONTENT[path.name])),
    "link": link_to_other_text,
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "pipe": os.mkfifo,
    "directory": Path.mkdir,
}


@pytest.mark.parametrize("name", ["ptb.test.txt", "ptb.char.train.txt"])
@pytest.mark.parametrize("kind", OTHER_FILES)
@pytest.mark.parametrize("origin", ["archive", "directory", "url"])
def test_other_file_of_the_same_name_is_kept(
    tmp_path: Path, origin: str, kind: str, name: str
) -> None:
    """It belongs to the user, so nothing is written, not even the other files."""
    target, source = tmp_path / "ptb", tmp_path / "source"
    target.mkdir()
    OTHER_FILES[kind](target / name)
    before = identities(target)
    if origin == "archive":
        source.write_bytes(ARCHIVE)
    else:
        write_files(source)
    urls = ["http://127.0.0.1:9/a.tgz"] if origin == "url" else None
    with pytest.raises(DataError, match=f"{name} exists, and is not the file of") as caught:
        fetch(DATASET, target, source=None if urls else source, urls=urls)
    assert caught.value.where == str(target / name)
    assert caught.value.hint == "move it, or pass another directory (`--to`)"
    assert identities(target) == before


def identities(directory: Path) -> dict[str, tuple[int, ...]]:
    """What a write to a file of a directory would change; reading changes the access time."""
    stats = {path.name: path.lstat() for path in directory.iterdir()}
    return {name: (s.st_ino, s.st_mode, s.st_size, s.st_mtime_ns) for name, s in stats.items()}


def test_link_to_a_verified_file_is_kept(tmp_path: Path) -> None:
    source, target = write_files(tmp_path / "source"), tmp_path / "ptb"
    target.mkdir()
    (target / "ptb.test.txt").symlink_to(source / "ptb.test.txt")
    fetch(DATASET, target, source=source)
    assert_good(target)
    assert (target / "ptb.test.txt").is_symlink()


def test_stale_temporary_files_are_removed(tmp_path: Path) -> None:
    source, target = write_files(tmp_path / "source"), tmp_path / "ptb"
    target.mkdir()
    (target / "ptb.test.txt.0123abcd.part").write_bytes(b"half")
    (target / "thesis.0123abcd.part").write_bytes(b"mine")
    fetch(DATASET, target, source=source)
    assert sorted(path.name for path in target.iterdir()) == sorted(
        [*CONTENT, "thesis.0123abcd.part"]
    )


def test_missing_local_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or directory"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"not found: ptb\.train\.txt") as caught:
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "empty")
    assert caught.value.where == str(tmp_path / "empty")
    assert str(caught.value.hint).startswith("pass the directory that contains these files")


def test_changed_file_in_a_local_directory_is_named(tmp_path: Path) -> None:
    source = write_files(tmp_path / "source")
    for content in (b"short", CONTENT["ptb.valid.txt"][:-1] + b"x"):
        (source / "ptb.valid.txt").write_bytes(content)
        with pytest.raises(DataError, match=r"ptb\.valid\.txt has wrong content") as caught:
            fetch(DATASET, tmp_path / "ptb", source=source)
        assert caught.value.where == str(source / "ptb.valid.txt")
        assert "download it again" in str(caught.value.hint)


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.touch, "is a file; --to needs a directory"),
        (os.mkfifo, "is not a directory; --to needs a directory"),
        (
            lambda path: path.symlink_to("nowhere"),
            "is a link to a missing directory; --to needs a directory",
        ),
    ],
    ids=["file", "pipe", "dangling link"],
)
def test_target_that_is_no_directory(
    tmp_path: Path, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / "target")
    with pytest.raises(DataError, match=f"target {message}"):
        fetch(DATASET, tmp_path / "target", source=write_files(tmp_path / "source"))
    with pytest.raises(DataError) as caught:
        fetch(DATASET, tmp_path / "target" / "inner", source=tmp_path / "source")
    assert caught.value.where == str(tmp_path / "target" / "inner")


@pytest.mark.parametrize("option", ["--to", "--from"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("long", "File name too long"),
        ("locked", "Permission denied"),
        ("loop", "Too many levels of symbolic links"),
    ],
)
def test_paths_that_the_system_rejects(
    option: str, kind: str, message: str, user: Unprivileged
) -> None:
    path = {"long": "n" * 300, "locked": "locked/x", "loop": "loop"}[kind]
    make_loop(user.directory / "loop")
    (user.directory / "locked").mkdir(mode=0o000)
    write_files(user.directory / "source")
    other = ["--from", "source"] if option == "--to" else ["--to", "target"]
    result = user.run("download-data", option, path, *other)
    assert result.returncode == 3, result.stderr
    assert re.search(message, result.stderr)
    assert path in result.stderr.replace("\n", "")
    assert "hint: " in result.stderr
    assert "Traceback" not in result.stderr


def test_command_reports_verified_files_and_directory(ptblm: Ptblm, ptb_directory: Path) -> None:
    result = ptblm("download-data", "--from", ptb_directory, "--to", "ptb")
    assert result.returncode == 0, result.stderr
    count = sum((ptb_directory / name).is_file() for name in DATASETS["ptb"].files)
    assert result.stdout.startswith(f"ptb contains {count} verified files: ptb.train.txt, ")
    failed = ptblm("download-data", "--from", "nowhere", "--to", "empty")
    assert failed.returncode == 3
    assert "no such file or directory" in failed.stderr
    assert "hint: check the path" in failed.stderr


@contextmanager
def no_open_files() -> Iterator[None]:
    """Within the block, no further file or socket can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_open_files(tmp_path: Path) -> None:
    source, target = write_files(tmp_path / "source"), tmp_path / "ptb"
    fetch(DATASET, target, source=source)
    with no_open_files(), pytest.raises(DataError, match="Too many open files") as caught:
        fetch(DATASET, target, source=source)
    assert caught.value.where == str(target / "ptb.train.txt")
    assert "raise the limit of open files (`ulimit -n`)" in str(caught.value.hint)
    with no_open_files(), pytest.raises(DataError, match="Too many open files"):
        fetch(DATASET, tmp_path / "other", source=source)
