"""Fault injection: each call of the operating system fails in turn, with one message."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ptblm.corpus import corpus as corpus_module
from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.datasets.fetch import fetch
from ptblm.errors import DataError
from tests.corpus.datasets.server import serving, whole
from tests.corpus.datasets.small_ptb import ARCHIVE, CONTENT, DATASET
from tests.corpus.helpers import data_config
from tests.failing_calls import failing_calls


def fail_in_turn(action: Callable[[Path], None], directory: Path, code: int) -> int:
    """Runs an action in new directories until all of its calls have failed once.

    Returns:
        The number of failed actions. Each raised a DataError with a path and a hint.
    """
    failed = 0
    for number in range(1000):
        place = directory / str(number)
        place.mkdir()
        with failing_calls(number, code) as calls:
            error = error_of(action, place)
        if error is not None:
            failed += 1
            assert os.strerror(code) in error.what, (number, calls.made[number], str(error))
            assert error.where, str(error)
            assert error.hint, str(error)
        if len(calls.made) <= number:
            return failed
    raise AssertionError("too many calls")


def error_of(action: Callable[[Path], None], place: Path) -> DataError | None:
    try:
        action(place)
    except DataError as error:
        return error
    return None


CODES = [errno.EIO, errno.EACCES, errno.ENAMETOOLONG]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("kind", ["archive", "directory"])
def test_copying_a_dataset(tmp_path: Path, kind: str, code: int) -> None:
    source = tmp_path / "source"
    if kind == "archive":
        source.write_bytes(ARCHIVE)
    else:
        source.mkdir()
        for name, data in CONTENT.items():
            (source / name).write_bytes(data)

    def copy(place: Path) -> None:
        assert fetch(DATASET, place / "ptb", source=source).missing == []

    assert fail_in_turn(copy, tmp_path, code) > 30


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("address", ["/a.tgz", "/data/"])
def test_downloading_a_dataset(
    tmp_path: Path, address: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptblm.corpus.datasets.download.PAUSE", 0.0)
    pages = {"/a.tgz": ARCHIVE, **{f"/data/{name}": data for name, data in CONTENT.items()}}
    with serving(pages, whole) as server:

        def download(place: Path) -> None:
            assert fetch(DATASET, place / "ptb", urls=[server.url(address)]).missing == []

        assert fail_in_turn(download, tmp_path, code) > 30


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("is_cached", [False, True])
def test_loading_a_corpus(
    tmp_path: Path, is_cached: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure of the cache is no failure of the command."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for split in ("train", "valid", "test"):
        (corpus / f"{split}.txt").write_text("a b <unk>\n" * 9)
    monkeypatch.setattr(corpus_module, "MIN_CACHED_SIZE", 1 if is_cached else 10**9)

    def load(place: Path) -> None:
        monkeypatch.setenv("PTBLM_CACHE", str(place / "cache"))
        assert len(load_corpus(data_config(corpus)).splits["train"].ids) == 36

    assert fail_in_turn(load, tmp_path, code) > 10
