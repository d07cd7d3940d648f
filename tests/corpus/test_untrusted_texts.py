"""Texts that cannot be read: one message with the right path, and no process that hangs."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.source import read_file
from ptblm.errors import DataError
from tests.corpus.helpers import TOKENIZER_NAMES, data_config
from tests.unprivileged import Unprivileged


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def make_link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.parent / "pipe")
    path.symlink_to("pipe")


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


LOAD = (
    "import sys; from ptblm.corpus.corpus import load_corpus; "
    "from ptblm.config.data import DataConfig; load_corpus(DataConfig(path=sys.argv[1]))"
)
SPECIAL: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "socket": make_socket,
    "link to a pipe": make_link_to_a_pipe,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
}
MISSING: dict[str, Callable[[Path], object]] = {
    "directory": Path.mkdir,
    "loop": make_loop,
    "dangling link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("kind", [*SPECIAL, *MISSING])
@pytest.mark.parametrize("name", ["train.txt", "valid.txt"])
@pytest.mark.parametrize("tokenizer", TOKENIZER_NAMES)
def test_directory_with_special_files(
    kind: str, name: str, tokenizer: str, small_corpus: Path
) -> None:
    (small_corpus / name).unlink()
    (SPECIAL | MISSING)[kind](small_corpus / name)
    with pytest.raises(DataError, match=f"the {name[:5]} split is missing; ") as caught:
        load_corpus(data_config(small_corpus, tokenizer))
    assert caught.value.where == str(small_corpus)
    assert caught.value.hint
    if kind in SPECIAL:
        assert f"{name} is a pipe, a socket or a device" in caught.value.what


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe"])
def test_pipe_that_replaces_a_text_does_not_block(kind: str, small_corpus: Path) -> None:
    """The kind of a file is checked each time that it is opened."""
    source = read_file(small_corpus / "train.txt", may_be_pipe=False)
    (small_corpus / "train.txt").unlink()
    SPECIAL[kind](small_corpus / "train.txt")
    with pytest.raises(DataError, match="cannot be read: not a regular file"):
        source.sha256()


@pytest.mark.parametrize("kind", ["socket", "link to a device", *MISSING])
def test_text_that_is_no_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    (SPECIAL | MISSING)[kind](path)
    with pytest.raises(DataError, match="cannot be read: ") as caught:
        read_file(path)
    assert caught.value.where == str(path)
    if kind != "directory":  # a directory can be a corpus
        with pytest.raises(DataError) as caught:
            load_corpus(data_config(path))
        assert str(path) in caught.value.what
    with pytest.raises(DataError) as caught:
        load_corpus(data_config("sample", vocabulary={"file": str(path)}))
    assert caught.value.where == str(path)


@pytest.mark.parametrize("path", ["a" * 300, "b/" * 3000])
def test_impossible_paths(path: str) -> None:
    for config in (data_config(path), data_config("sample", vocabulary={"file": path})):
        with pytest.raises(DataError) as caught:
            load_corpus(config)
        assert path[:100] in str(caught.value.where)
        assert caught.value.hint
    with pytest.raises(DataError):
        read_file(Path(path))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
@pytest.mark.parametrize("function", ["stat", "open", "listdir"])
def test_errors_of_the_file_system(
    function: str, number: int, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call that concerns the corpus can fail."""
    original = getattr(os, function)

    def fail(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(small_corpus) in str(path) and path != small_corpus:
            raise OSError(number, os.strerror(number), str(path))
        return original(path, *arguments, **options)

    def fail_at_once(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(small_corpus) in str(path):
            raise OSError(number, os.strerror(number), str(path))
        return original(path, *arguments, **options)

    for replacement in (fail, fail_at_once):
        if function == "listdir" and replacement is fail:
            continue
        with monkeypatch.context() as patch:
            patch.setattr(os, function, replacement)
            with pytest.raises(DataError, match=f"cannot be read: {os.strerror(number)}") as caught:
                load_corpus(data_config(small_corpus))
        assert str(caught.value.where).startswith(str(small_corpus))
        assert caught.value.hint


@pytest.mark.parametrize("kind", ["directory", "file", "parent", "unsearchable"])
def test_permissions(kind: str, user: Unprivileged) -> None:
    """A directory that may not be read, entered or searched; a text that may not be read."""
    corpus = user.directory / "parent" / "corpus"
    corpus.mkdir(parents=True)
    for split in ("train", "valid", "test"):
        (corpus / f"{split}.txt").write_text("a b <unk>\n" * 90)
    locked = {"file": corpus / "train.txt", "parent": corpus.parent}.get(kind, corpus)
    locked.chmod(0o600 if kind == "unsearchable" else 0o000)
    try:
        result = user.python("-c", LOAD, "parent/corpus")
    finally:
        locked.chmod(0o700)
    assert "ptblm.errors.DataError: " in result.stderr
    assert "cannot be read: Permission denied\n" in result.stderr
    assert "parent/corpus" in result.stderr
    assert "hint: check the permissions of the path" in result.stderr


def test_subdirectories_that_cannot_be_read_do_not_matter(user: Unprivileged) -> None:
    inner = user.directory / "corpus" / "inner"
    inner.mkdir(parents=True)
    (user.directory / "corpus" / "locked").mkdir(mode=0o000)
    for split in ("train", "valid", "test"):
        (inner / f"{split}.txt").write_text("a b <unk>\n" * 9)
    result = user.python("-c", LOAD, "corpus")
    assert result.returncode == 0, result.stderr


def test_current_directory_that_was_deleted(user: Unprivileged) -> None:
    code = f"import os; os.mkdir('x'); os.chdir('x'); os.rmdir('../x'); {LOAD}"
    for path in ("ptb", "nowhere", "."):
        result = user.python("-c", code, path)
        assert "ptblm.errors.DataError: " in result.stderr
