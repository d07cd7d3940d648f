"""The cache: the same corpus from it, never an old or a damaged one, and no run that it stops."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from ptblm.corpus import cache
from ptblm.corpus import corpus as corpus_module
from ptblm.corpus.batches import batchify
from ptblm.corpus.cache import cache_directory
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.tokenizers.base import Level
from ptblm.errors import DataError
from ptblm.evaluation.scorer import on_device
from ptblm.lock import locked
from tests.conftest import plain_environment

LEVELS: list[Level] = ["word", "char", "byte"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, into which even the smallest corpus goes."""
    monkeypatch.setattr(corpus_module, "WORTH_CACHING", 1)
    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def uncached(path: Path, level: Level = "word") -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "WORTH_CACHING", sys.maxsize)
        return load_corpus(str(path), level)


def assert_equal(ours: Corpus, theirs: Corpus) -> None:
    assert ours.vocabulary.words == theirs.vocabulary.words
    assert list(ours.splits) == list(theirs.splits)
    for split, text in theirs.splits.items():
        assert np.array_equal(ours.splits[split].ids, text.ids)
        assert ours.splits[split].ids.dtype == text.ids.dtype
        assert ours.splits[split].unknown == text.unknown
        assert ours.splits[split].sha256 == text.sha256
    assert (ours.name, ours.level, ours.cut) == (theirs.name, theirs.level, theirs.cut)
    assert ours.floors == theirs.floors


def refuse_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(cache, "write_corpus", read)
    monkeypatch.setattr(corpus_module, "read_corpus", read)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("layout", ["three files", "one file"])
def test_the_cache_gives_the_same_corpus(
    small_corpus: Path, place: Path, level: Level, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout == "three files":
        (small_corpus / "valid.txt").write_text("the zebra\n" * 30)  # it has unknown words
    path = small_corpus if layout == "three files" else small_corpus / "train.txt"
    expected = uncached(path, level)
    written = load_corpus(str(path), level)
    refuse_reading(monkeypatch)
    read = load_corpus(str(path), level)
    for corpus in (written, read):
        assert_equal(corpus, expected)
        corpus.release()
        assert_equal(corpus, expected)
    assert len(list(place.iterdir())) == 1


def test_levels_and_places_have_caches_of_their_own(small_corpus: Path, place: Path) -> None:
    other = small_corpus.with_name("other")
    other.mkdir()
    for path in small_corpus.iterdir():
        (other / path.name).write_text(path.read_text().replace("cat", "cow"))
    for _ in range(2):
        for level in LEVELS:
            for path in (small_corpus, other, small_corpus / "train.txt"):
                assert_equal(load_corpus(str(path), level), uncached(path, level))
    assert len(list(place.iterdir())) == 9


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_changed_text_is_noticed(small_corpus: Path, place: Path, split: str) -> None:
    """Of the same size, and of the same time: as if within a tick of the clock."""
    load_corpus(str(small_corpus))
    path = small_corpus / f"{split}.txt"
    before = path.stat()
    path.write_text(path.read_text().replace("sat on", "on sat"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert_equal(load_corpus(str(small_corpus)), uncached(small_corpus))
    assert len(list(place.iterdir())) == 1  # the old ids are gone


def test_a_damaged_cache_is_read_again(small_corpus: Path, place: Path) -> None:
    load_corpus(str(small_corpus))
    (path,) = place.glob("*/ids")
    good = path.read_bytes()
    assert path.stat().st_size < 2000
    damaged = [good[:length] for length in (0, 1, 39, len(good) // 2, len(good) - 1)]
    damaged += [good + b"\0", b"\0" * len(good), good[:-40] + b"\xff" * 40]
    for place_of_bit in range(0, 8 * len(good), 97):
        flipped = bytearray(good)
        flipped[place_of_bit // 8] ^= 1 << place_of_bit % 8
        damaged.append(bytes(flipped))
    expected = uncached(small_corpus)
    for content in damaged:
        path.write_bytes(content)
        assert_equal(load_corpus(str(small_corpus)), expected)
        assert path.read_bytes() == good


def test_a_cache_of_another_format_is_read_again(
    small_corpus: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_corpus(str(small_corpus))
    (path,) = place.glob("*/ids")
    before = path.read_bytes()
    monkeypatch.setattr(cache, "FORMAT", 2)
    assert_equal(load_corpus(str(small_corpus)), uncached(small_corpus))
    assert path.read_bytes() != before


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_stops_nothing(
    small_corpus: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Full:
        def __getattr__(self, name: str) -> object:
            return full

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            pass

    for owner, name in ((tempfile, "TemporaryFile"), (os, "fsync"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, (lambda **_: Full()) if owner is tempfile else full)
            assert_equal(load_corpus(str(small_corpus)), uncached(small_corpus))
        notes = capsys.readouterr().err.splitlines()
        assert len(notes) == 1
        assert notes[0].startswith("note: corpus can't be cached, and takes memory: ")
        assert "No space left on device" in notes[0]
        assert list(place.glob("*/*")) == []


def test_a_place_that_is_none_stops_nothing(
    small_corpus: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write_text("a file, not a directory")
    assert_equal(load_corpus(str(small_corpus)), uncached(small_corpus))
    assert capsys.readouterr().err.startswith("note: corpus can't be cached")
    assert place.read_text() == "a file, not a directory"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_the_cache_is_its_users_alone(small_corpus: Path, place: Path) -> None:
    load_corpus(str(small_corpus))
    (entry,) = place.iterdir()
    assert stat.S_IMODE(entry.stat().st_mode) == 0o700


def test_an_error_of_the_text_leaves_nothing_behind(small_corpus: Path, place: Path) -> None:
    (small_corpus / "test.txt").write_bytes(b"the \xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        load_corpus(str(small_corpus))
    assert list(place.glob("*/*")) == []


def test_small_corpora_are_not_cached(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "cache"))
    load_corpus(str(small_corpus))
    assert not (tmp_path / "cache").exists()


def test_who_comes_second_waits_and_reads_nothing(
    small_corpus: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_corpus(str(small_corpus))
    (path,) = place.glob("*/ids")
    good = path.read_bytes()
    path.unlink()
    found: list[Corpus] = []
    second = threading.Thread(target=lambda: found.append(load_corpus(str(small_corpus))))
    with locked(path.parent):
        second.start()
        second.join(0.5)
        assert second.is_alive()
        path.write_bytes(good)
        inode = path.stat().st_ino
    second.join(20)
    assert_equal(found[0], uncached(small_corpus))
    assert path.stat().st_ino == inode
    assert f"note: waiting for process {os.getpid()}" in capsys.readouterr().err


def test_four_processes_at_once(small_corpus: Path, place: Path) -> None:
    code = "import sys; from ptblm.corpus import corpus; corpus.WORTH_CACHING = 1; "
    code += "print(corpus.load_corpus(sys.argv[1]).splits['train'].ids.sum())"
    command = [sys.executable, "-c", code, str(small_corpus)]
    processes = [
        subprocess.Popen(command, env=plain_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    expected = int(uncached(small_corpus).splits["train"].ids.sum())
    assert [int(process.communicate(timeout=60)[0]) for process in processes] == [expected] * 4
    assert len(list(place.glob("*/*"))) == 1


def test_batches_of_a_cached_text_are_no_copies(small_corpus: Path, place: Path) -> None:
    """Neither NumPy's nor torch's, and what is written to them never reaches the file."""
    corpus = load_corpus(str(small_corpus))
    (path,) = place.glob("*/ids")
    before = path.read_bytes()
    ids = corpus.splits["train"].ids
    batches = batchify(ids, 4, 5, "train")
    assert np.shares_memory(batches.inputs, ids)
    inputs, targets = on_device(batches, torch.device("cpu"))
    assert inputs.dtype == torch.uint8
    assert inputs.data_ptr() == ids.ctypes.data
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    inputs[0, 0] += 1
    assert path.read_bytes() == before


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTBLM_CACHE", "/somewhere")
    assert cache_directory() == Path("/somewhere")
    monkeypatch.delenv("PTBLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/xdg/ptblm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_directory() == Path("/home/someone/.cache/ptblm")
