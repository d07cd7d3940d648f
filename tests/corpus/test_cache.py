"""The cache: same corpus, never outdated or damaged, and its errors do not stop a run."""

import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from ptblm.corpus import cache_file
from ptblm.corpus import corpus as corpus_module
from ptblm.corpus.batches import batchify
from ptblm.corpus.cache import cache_directory
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import DataError
from ptblm.evaluation.scorer import on_device
from tests.conftest import plain_environment
from tests.corpus.helpers import TOKENIZER_NAMES, data_config


@pytest.fixture(autouse=True)
def _log_notes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="ptblm")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for corpora of any size."""
    monkeypatch.setattr(corpus_module, "MIN_CACHED_SIZE", 1)
    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def uncached(path: Path, tokenizer: str = "word") -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus_module, "MIN_CACHED_SIZE", sys.maxsize)
        return load_corpus(data_config(path, tokenizer))


def assert_equal(ours: Corpus, theirs: Corpus) -> None:
    assert ours.vocabulary.tokens == theirs.vocabulary.tokens
    assert list(ours.splits) == list(theirs.splits)
    for split, text in theirs.splits.items():
        assert np.array_equal(ours.splits[split].ids, text.ids)
        assert ours.splits[split].ids.dtype == text.ids.dtype
        assert ours.splits[split].unknown == text.unknown
        assert ours.splits[split].sha256 == text.sha256
    assert ours.vocabulary.counts == theirs.vocabulary.counts
    assert (ours.name, ours.tokenizer.name) == (theirs.name, theirs.tokenizer.name)
    assert ours.split_rule == theirs.split_rule
    assert ours.notes == theirs.notes
    assert ours.entropy_bounds == theirs.entropy_bounds


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("the text was tokenized again")

    monkeypatch.setattr(cache_file, "write_corpus", read)
    monkeypatch.setattr(corpus_module, "read_corpus", read)


@pytest.mark.parametrize("tokenizer", TOKENIZER_NAMES)
@pytest.mark.parametrize("layout", ["three files", "one file"])
def test_cached_corpus_is_the_same(
    small_corpus: Path, place: Path, tokenizer: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if layout == "three files":
        (small_corpus / "valid.txt").write_text("the zebra\n" * 30)  # with unknown words
    path = small_corpus if layout == "three files" else small_corpus / "train.txt"
    expected = uncached(path, tokenizer)
    written = load_corpus(data_config(path, tokenizer))
    forbid_reading(monkeypatch)
    read = load_corpus(data_config(path, tokenizer))
    for corpus in (written, read):
        assert_equal(corpus, expected)
        corpus.release()
        assert_equal(corpus, expected)
    assert len(list(place.iterdir())) == 1


def test_each_tokenizer_and_location_has_its_cache(small_corpus: Path, place: Path) -> None:
    other = small_corpus.with_name("other")
    other.mkdir()
    for path in small_corpus.iterdir():
        (other / path.name).write_text(path.read_text().replace("cat", "cow"))
    for _ in range(2):
        for tokenizer in TOKENIZER_NAMES:
            for path in (small_corpus, other, small_corpus / "train.txt"):
                assert_equal(
                    load_corpus(data_config(path, tokenizer)),
                    uncached(path, tokenizer),
                )
    assert len(list(place.iterdir())) == 9


def test_any_vocabulary_can_be_a_part_of_the_key(small_corpus: Path, place: Path) -> None:
    """A checkpoint of a stranger can have a token that is not valid Unicode."""
    vocabulary = Vocabulary(["<unk>", "<eos>", "\ud800"], [1, 1, 1])
    load_corpus(data_config(small_corpus), vocabulary)
    assert len(list(place.iterdir())) == 1


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_changed_text_is_noticed(small_corpus: Path, place: Path, split: str) -> None:
    """Even if it has the same size and modification time."""
    load_corpus(data_config(small_corpus))
    path = small_corpus / f"{split}.txt"
    before = path.stat()
    path.write_text(path.read_text().replace("sat on", "on sat"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert_equal(load_corpus(data_config(small_corpus)), uncached(small_corpus))
    assert len(list(place.iterdir())) == 1  # the old ids are gone


def test_damaged_cache_is_rewritten(small_corpus: Path, place: Path) -> None:
    load_corpus(data_config(small_corpus))
    (path,) = place.glob("*/ids")
    good = path.read_bytes()
    assert path.stat().st_size < 3000
    damaged = [good[:length] for length in (0, 1, 39, len(good) // 2, len(good) - 1)]
    damaged += [good + b"\0", b"\0" * len(good), good[:-40] + b"\xff" * 40]
    for place_of_bit in range(0, 8 * len(good), 97):
        flipped = bytearray(good)
        flipped[place_of_bit // 8] ^= 1 << place_of_bit % 8
        damaged.append(bytes(flipped))
    expected = uncached(small_corpus)
    for content in damaged:
        path.write_bytes(content)
        assert_equal(load_corpus(data_config(small_corpus)), expected)
        assert path.read_bytes() == good


def test_cache_of_another_format_is_rewritten(
    small_corpus: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_corpus(data_config(small_corpus))
    (path,) = place.glob("*/ids")
    before = path.read_bytes()
    monkeypatch.setattr(cache_file, "FORMAT", cache_file.FORMAT + 1)
    assert_equal(load_corpus(data_config(small_corpus)), uncached(small_corpus))
    assert path.read_bytes() != before


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_does_not_stop_a_run(
    small_corpus: Path,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
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
            assert_equal(load_corpus(data_config(small_corpus)), uncached(small_corpus))
        notes = caplog.messages
        caplog.clear()
        assert len(notes) == 1
        assert notes[0].startswith("corpus could not be cached; keeping it in memory: ")
        assert "No space left on device" in notes[0]
        assert [path.name for path in place.glob("*/*")] in ([], ["lock"])


def test_unusable_location_does_not_stop_a_run(
    small_corpus: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place.write_text("a file, not a directory")
    assert_equal(load_corpus(data_config(small_corpus)), uncached(small_corpus))
    assert caplog.messages[0].startswith("corpus could not be cached")
    assert place.read_text() == "a file, not a directory"


def test_error_in_the_text_leaves_no_ids(small_corpus: Path, place: Path) -> None:
    (small_corpus / "test.txt").write_bytes(b"the \xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        load_corpus(data_config(small_corpus))
    assert [path.name for path in place.glob("*/*")] in ([], ["lock"])


def test_small_corpora_are_not_cached(
    small_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "cache"))
    load_corpus(data_config(small_corpus))
    assert not (tmp_path / "cache").exists()


def test_second_process_waits_and_reads_the_cache(
    small_corpus: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_corpus(data_config(small_corpus))
    (path,) = place.glob("*/ids")
    good = path.read_bytes()
    path.unlink()
    found: list[Corpus] = []
    second = threading.Thread(target=lambda: found.append(load_corpus(data_config(small_corpus))))
    with FileLock(path.parent / "lock"):
        second.start()
        second.join(0.5)
        assert second.is_alive()
        path.write_bytes(good)
        inode = path.stat().st_ino
    second.join(20)
    assert_equal(found[0], uncached(small_corpus))
    assert path.stat().st_ino == inode
    assert caplog.messages == ["waiting for another process that is caching corpus"]


def test_four_processes_share_one_cache(small_corpus: Path, place: Path) -> None:
    code = "import sys; from ptblm.corpus import corpus; corpus.MIN_CACHED_SIZE = 1; "
    code += "from ptblm.config.data import DataConfig; "
    code += "print(corpus.load_corpus(DataConfig(path=sys.argv[1])).splits['train'].ids.sum())"
    command = [sys.executable, "-c", code, str(small_corpus)]
    processes = [
        subprocess.Popen(command, env=plain_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    expected = int(uncached(small_corpus).splits["train"].ids.sum())
    assert [int(process.communicate(timeout=60)[0]) for process in processes] == [expected] * 4
    assert sorted(path.name for path in place.glob("*/*")) == ["ids", "lock"]


def test_batches_of_a_cached_text_are_not_copied(small_corpus: Path, place: Path) -> None:
    """By NumPy or torch; and writing to them does not change the file."""
    corpus = load_corpus(data_config(small_corpus))
    (path,) = place.glob("*/ids")
    before = path.read_bytes()
    ids = corpus.splits["train"].ids
    batches = batchify(ids, 4, 5, "train")
    assert np.shares_memory(batches.inputs, ids)
    streams = on_device(batches.streams, torch.device("cpu"))
    assert streams.dtype == torch.uint8
    assert streams.data_ptr() == ids.ctypes.data
    streams[0, 0] += 1
    assert path.read_bytes() == before


def test_location_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTBLM_CACHE", "/somewhere")
    assert cache_directory() == Path("/somewhere")
    monkeypatch.delenv("PTBLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_directory() == Path("/xdg/ptblm")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_directory() == Path("/home/someone/.cache/ptblm")
