"""Small corpora in the layout of the public ones: the same facts with other sizes and checksums."""

import dataclasses
import hashlib
import io
import zipfile
from typing import Any

from ptblm.corpus.datasets import DATASETS
from ptblm.corpus.datasets.base import Dataset
from tests.corpus.datasets.small_ptb import make_archive

TITLE, LINE = b" \n = Robert <unk> = \n \n", b" Robert <unk> is an English film . \n"
_WIKI = {"train": TITLE + LINE * 30, "valid": LINE * 3, "test": LINE * 2}
# One line of 2,000 bytes without a newline.
ONE_LINE = b" anarchism originated as a term of abuse" * 50
_SHARDS = {number: b"shard %d says hello .\n" % number * 9 for number in (2, 1, 3)}
SOURCES = ["bnc_spoken", "childes", "gutenberg", "open_subtitles", "simple_wiki", "switchboard"]
_LM = "1-billion-word-language-modeling-benchmark-r13output"

# The content of each archive by the name of the archive.
MEMBERS: dict[str, dict[str, dict[str, bytes]]] = {
    **{
        name: {
            f"{name}-v1.zip": {f"{name}/wiki.{split}.tokens": text for split, text in _WIKI.items()}
        }
        for name in ("wikitext-2", "wikitext-103")
    },
    **{name: {f"{name}.zip": {name: ONE_LINE}} for name in ("text8", "enwik8")},
    "one-billion-word": {
        f"{_LM}.tar.gz": {
            f"{_LM}/README": b"read me",
            **{
                f"{_LM}/training-monolingual.tokenized.shuffled/news.en-0000{number}-of-00100": text
                for number, text in _SHARDS.items()
            },
            **{
                f"{_LM}/heldout-monolingual.tokenized.shuffled/"
                f"news.en.heldout-0000{number}-of-00050": b"held out %d .\n" % number * 2
                for number in (0, 2, 1)
            },
        }
    },
    "babylm-10m": {
        f"{folder}.zip": {
            f"{prefix}{folder}/{dot}{source}.{folder.split('_')[0]}": text
            for source in reversed(SOURCES)
            for prefix, dot, text in (
                ("", "", f"{folder} {source}\n".encode() * 5),
                ("__MACOSX/", "._", b"\0Mac OS X"),
            )
        }
        for folder in ("train_10M", "dev", "test")
    },
}


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def archives_of(name: str) -> dict[str, bytes]:
    """The archives of a small corpus by their names."""
    return {
        archive: make_zip(members) if archive.endswith(".zip") else make_archive(members)
        for archive, members in MEMBERS[name].items()
    }


def small_dataset(name: str) -> Dataset:
    """The facts of a corpus, with the sizes, checksums and numbers of tokens of the small one."""
    dataset, archives = DATASETS[name], archives_of(name)
    files = {}
    for file, facts in dataset.files.items():
        changes: dict[str, Any] = {}
        if facts.sha256 is not None:
            changes = {"size": len(ONE_LINE), "sha256": hashlib.sha256(ONE_LINE).hexdigest()}
        if facts.tokens is not None:
            text = expected_text(name, file)
            changes["tokens"] = len(text.split()) + text.count(b"\n")
        if facts.parts > 1:
            changes |= {"parts": 3 if name == "one-billion-word" else len(SOURCES), "size": None}
        files[file] = dataclasses.replace(facts, **changes)
    return dataclasses.replace(
        dataset,
        files=files,
        download_size=1000,
        disk_size=1000,
        tokens={},
        archives=tuple(
            dataclasses.replace(
                archive,
                sha256=archive.sha256 and hashlib.sha256(archives[archive.name]).hexdigest(),
            )
            for archive in dataset.archives
        ),
    )


def expected_text(name: str, file: str) -> bytes:
    """The text of a file, put together by hand."""
    if name.startswith("wikitext"):
        return _WIKI[file.split(".")[1]]
    if name in ("text8", "enwik8"):
        return ONE_LINE
    if name == "one-billion-word":
        number = {"valid.txt": 1, "test.txt": 0}.get(file)
        joined = b"".join(_SHARDS[shard] for shard in (1, 2, 3))
        return joined if number is None else b"held out %d .\n" % number * 2
    folder = {"train.txt": "train_10M", "valid.txt": "dev", "test.txt": "test"}[file]
    return b"".join(f"{folder} {source}\n".encode() * 5 for source in SOURCES)
