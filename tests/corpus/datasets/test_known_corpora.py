"""Known corpora: installed from archives in the public layout, and read as publications do."""

import dataclasses
import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.datasets import DATASETS, download
from ptblm.corpus.datasets.base import Dataset
from ptblm.corpus.datasets.fetch import fetch
from ptblm.errors import DataError
from ptblm.reporting.published import PUBLISHED_FOR_CORPUS
from tests.conftest import Ptblm
from tests.corpus.datasets.server import serving, whole
from tests.corpus.datasets.small_corpora import (
    LINE,
    ONE_LINE,
    archives_of,
    expected_text,
    small_dataset,
)
from tests.corpus.helpers import data_config

NAMES = ["wikitext-2", "wikitext-103", "text8", "enwik8", "one-billion-word", "babylm-10m"]


def serve_archives(dataset: Dataset, base: str) -> Dataset:
    """The corpus with its archives on another server."""
    archives = tuple(
        dataclasses.replace(archive, urls=(f"{base}/missing.zip", f"{base}/{archive.name}"))
        for archive in dataset.archives
    )
    return dataclasses.replace(dataset, archives=archives)


def write_archives(name: str, directory: Path) -> Path:
    directory.mkdir()
    for archive, data in archives_of(name).items():
        (directory / archive).write_bytes(data)
    return directory


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in which all small corpora are installed."""
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        small = small_dataset(name)
        monkeypatch.setitem(DATASETS, name, small)
        fetch(small, source=write_archives(name, tmp_path / f"archives-{name}"))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_archives_are_downloaded_and_files_put_together(name: str, tmp_path: Path) -> None:
    pages = {f"/{archive}": data for archive, data in archives_of(name).items()}
    with serving(pages, whole) as server:
        dataset = serve_archives(small_dataset(name), server.url(""))
        result = fetch(dataset, tmp_path)
        assert result.missing == result.failures == []
        for file in dataset.files:
            assert (tmp_path / file).read_bytes() == expected_text(name, file)
        assert {path.name for path in tmp_path.iterdir()} == set(dataset.files)
        requests = len(server.ranges)
        assert fetch(dataset, tmp_path) == result  # complete: nothing is requested
        assert len(server.ranges) == requests
    is_babylm = name.startswith("babylm")  # of which no checksum was published
    assert (result.unverified if is_babylm else result.verified) == list(dataset.files)


def test_license_and_size_are_printed_before_the_download(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.0)
    caplog.set_level("INFO", logger="ptblm")
    with pytest.raises(DataError, match="Connection refused"):
        fetch(DATASETS["wikitext-103"], tmp_path, urls=["http://127.0.0.1:9/a.zip"])
    assert caplog.messages == [
        "license of WikiText-103: CC BY-SA 3.0 (text of Wikipedia)",
        "downloading 190 MB; the files take 542 MB",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_unpacked_archives_are_copied(name: str, tmp_path: Path) -> None:
    source = write_archives(name, tmp_path / "archives")
    for archive in list(source.iterdir()):
        shutil.unpack_archive(archive, source)
        archive.unlink()
    dataset = small_dataset(name)
    fetch(dataset, tmp_path / "data", source=source)
    for file in dataset.files:
        assert (tmp_path / "data" / file).read_bytes() == expected_text(name, file)


@pytest.mark.parametrize("name", ["wikitext-2", "one-billion-word"])
def test_other_archive_is_rejected(name: str, tmp_path: Path) -> None:
    """Its SHA-256 is compared before anything is written."""
    source = write_archives(name, tmp_path / "archives")
    (archive,) = source.iterdir()
    archive.write_bytes(archive.read_bytes() + b"\n")
    with pytest.raises(DataError, match="not the public archive: sha256") as caught:
        fetch(small_dataset(name), tmp_path / "data", source=archive)
    assert caught.value.where == str(archive)
    assert not (tmp_path / "data").exists()


def test_truncated_text_is_recognized_by_its_tokens(tmp_path: Path) -> None:
    """No checksum of the files of WikiText was published, so tokens are counted."""
    source = write_archives("wikitext-2", tmp_path / "archives")
    shutil.unpack_archive(source / "wikitext-2-v1.zip", source)
    (source / "wikitext-2-v1.zip").unlink()
    (source / "wikitext-2" / "wiki.valid.tokens").write_bytes(LINE * 2)
    with pytest.raises(DataError, match=r"valid\.tokens has wrong content: 16 tokens, expected 24"):
        fetch(small_dataset("wikitext-2"), tmp_path / "data", source=source)


def test_missing_shard_is_an_error(tmp_path: Path) -> None:
    dataset = small_dataset("one-billion-word")
    train = dataclasses.replace(dataset.files["train.txt"], parts=4)
    dataset = dataclasses.replace(dataset, files={**dataset.files, "train.txt": train})
    source = write_archives("one-billion-word", tmp_path / "archives")
    with pytest.raises(DataError, match=r"contains 3 of the 4 parts of train\.txt"):
        fetch(dataset, tmp_path / "data", source=next(source.iterdir()))


def test_full_disk_is_noticed_before_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 10**9))
    with pytest.raises(DataError, match=r"needs 5\.9 GB, and 5\.0 GB are free") as caught:
        fetch(DATASETS["one-billion-word"], tmp_path)
    assert str(caught.value.hint).startswith("free disk space")


def test_mirror_of_several_archives_is_ambiguous(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="several archives: train_10M"):
        fetch(DATASETS["babylm-10m"], tmp_path, urls=["http://127.0.0.1:9/"])


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "tokenizer", "tokens"),
    [
        # A title of 4 words, 2 blank lines, and lines of 7 words, each with a line end.
        ("wikitext-2", "word", [4 + 3 + 30 * 8, 3 * 8, 2 * 8]),
        ("wikitext-103", "word", [4 + 3 + 30 * 8, 3 * 8, 2 * 8]),
        ("text8", "byte", [1800, 100, 100]),
        ("enwik8", "byte", [1800, 100, 100]),
        ("one-billion-word", "word", [3 * 9 * 6, 2 * 5, 2 * 5]),
        ("babylm-10m", "word", [6 * 5 * 3] * 3),
    ],
)
def test_corpus_is_read_by_its_name(name: str, tokenizer: str, tokens: list[int]) -> None:
    corpus = load_corpus(data_config(name, tokenizer))
    assert corpus.name == name
    assert [len(text.ids) for text in corpus.splits.values()] == tokens
    assert not any("published" in note for note in corpus.notes)


@pytest.mark.usefixtures("installed")
def test_one_line_is_divided_at_spaces_for_words() -> None:
    corpus = load_corpus(data_config("text8"))
    texts = [corpus.tokenizer.decode(text.ids).split() for text in corpus.splits.values()]
    assert [word for words in texts for word in words] == ONE_LINE.decode().split()
    assert "published results of text8 use --tokenizer byte" in corpus.notes


@pytest.mark.usefixtures("installed")
def test_other_number_of_tokens_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    other = dataclasses.replace(DATASETS["wikitext-2"], tokens={"train": 247, "test": 245_569})
    monkeypatch.setitem(DATASETS, "wikitext-2", other)
    notes = load_corpus(data_config("wikitext-2")).notes
    assert "the test split has 16 tokens; that of publications has 245,569" in notes
    assert not any("train split" in note for note in notes)


@pytest.mark.usefixtures("in_directory")
def test_missing_corpus_names_the_command_and_a_local_file() -> None:
    with pytest.raises(DataError, match=r"WikiText-2 is not downloaded: wiki\.train") as caught:
        load_corpus(data_config("wikitext-2"))
    assert str(caught.value.hint).startswith("run `ptblm download-data wikitext-2`, or")
    Path("text8").write_text("mine")
    with pytest.raises(DataError, match="text8 is not downloaded") as caught:
        load_corpus(data_config("text8"))
    assert "pass --data ./text8 for the file text8 here" in str(caught.value.hint)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
def test_facts_are_complete(dataset: Dataset) -> None:
    assert sorted(dataset.files) == sorted(
        name for archive in dataset.archives for name in archive.files
    )
    hashes = [archive.sha256 for archive in dataset.archives]
    hashes += [file.sha256 for file in dataset.files.values()]
    assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in hashes if sha256)
    for archive in dataset.archives:
        assert archive.urls
        assert all(urlsplit(url).scheme in ("http", "https") for url in archive.urls)
    # What is published of the files agrees with what is published of the splits.
    counts = [file.tokens for file in dataset.files.values() if file.tokens is not None]
    assert counts in ([], list(dataset.tokens.values()))
    assert set(PUBLISHED_FOR_CORPUS) <= set(DATASETS)


def test_command_lists_and_installs_corpora(ptblm: Ptblm, tmp_path: Path) -> None:
    listed = ptblm("download-data", "--list").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["corpus", *DATASETS]
    unknown = ptblm("download-data", "wikitext-3")
    assert unknown.returncode == 2
    assert "unknown corpus 'wikitext-3'; known are ptb, wikitext-2" in unknown.stderr
    source = write_archives("babylm-10m", tmp_path / "archives")
    (source / "train_10M.zip").unlink()
    result = ptblm("download-data", "babylm-10m", "--from", source, "--to", "here")
    assert result.returncode == 3
    assert "not found: train.txt" in result.stderr
