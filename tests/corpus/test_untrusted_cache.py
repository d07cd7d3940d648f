"""The cache trusts neither directories of other users, nor links, nor the bytes of its files."""

import copy
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptblm.corpus import corpus as corpus_module
from ptblm.corpus.corpus import load_corpus
from tests.corpus.helpers import data_config
from tests.in_process import locations, mutated


@pytest.fixture
def place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Path:
    """The default cache directory of a user, for corpora of any size."""
    caplog.set_level("INFO", logger="ptblm")
    monkeypatch.setattr(corpus_module, "MIN_CACHED_SIZE", 1)
    monkeypatch.delenv("PTBLM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return tmp_path / "xdg" / "ptblm"


def load(small_corpus: Path) -> None:
    """Loads the corpus, whose training split has 680 tokens."""
    corpus = load_corpus(data_config(small_corpus))
    ids = corpus.splits["train"].ids
    assert len(ids) == 680
    assert np.bincount(ids).tolist() == list(corpus.vocabulary.counts)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directories_are_private(small_corpus: Path, place: Path) -> None:
    old = os.umask(0)
    try:
        load(small_corpus)
    finally:
        os.umask(old)
    (entry,) = place.iterdir()
    assert (mode(place), mode(entry)) == (0o700, 0o700)
    for path in (place, entry):
        path.chmod(0o777)
    load(small_corpus)
    assert (mode(place), mode(entry)) == (0o700, 0o700)


def test_directory_that_the_user_chose_keeps_its_permissions(
    small_corpus: Path, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "shared"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    load(small_corpus)
    (entry,) = (tmp_path / "shared").iterdir()
    assert (mode(tmp_path / "shared"), mode(entry)) == (0o1777, 0o700)
    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "new" / "cache"))
    load(small_corpus)
    assert mode(tmp_path / "new" / "cache") == 0o700
    assert not place.exists()


def give_away(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can create files of other users")
    os.chown(path, 1234, 1234)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("change", [give_away, link])
@pytest.mark.parametrize("level", ["cache", "entry"])
def test_directories_of_others_are_not_used(
    level: str,
    change: Callable[[Path], None],
    small_corpus: Path,
    place: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    load(small_corpus)
    (ids,) = place.glob("*/ids")
    path = place if level == "cache" else ids.parent
    ids.unlink()
    change(path)
    load(small_corpus)
    (message,) = caplog.messages
    assert message.startswith("corpus could not be cached; keeping it in memory: ")
    assert [file.name for file in path.parent.rglob("*") if file.is_file()] == ["lock"]


def link_to(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


@pytest.mark.parametrize("name", ["ids", "lock"])
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "dangling link"])
def test_planted_files_are_never_followed(
    name: str, kind: str, small_corpus: Path, place: Path, tmp_path: Path
) -> None:
    load(small_corpus)
    (ids,) = place.glob("*/ids")
    planted, victim = ids.with_name(name), tmp_path / "victim"
    victim.write_text("precious")
    planted.unlink()
    (ids.parent / "ids.0123abcd.part").touch()
    if kind == "pipe":
        os.mkfifo(planted)
    elif kind == "hard link":
        os.link(victim, planted)
    else:
        planted.symlink_to(victim if kind == "link" else tmp_path / "new")
    if name == "lock":
        ids.unlink()
    load(small_corpus)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "new").exists()
    assert sorted(path.name for path in ids.parent.iterdir()) == ["ids", "lock"]
    assert all(stat.S_ISREG(path.lstat().st_mode) for path in ids.parent.iterdir())


# --- files of any bytes ---


def split_file(content: bytes) -> tuple[bytes, dict[str, Any]]:
    """Returns the bytes of the ids and the JSON document."""
    length = int.from_bytes(content[-40:-32], "little")
    return content[: -40 - length], json.loads(content[-40 - length : -40])


def with_digest(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


def join_file(ids: bytes, document: Any) -> bytes:
    as_json = document if isinstance(document, bytes) else json.dumps(document).encode()
    return with_digest(ids + as_json + len(as_json).to_bytes(8, "little"))


OTHER_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**70,
    1.5,
    float("nan"),
    "x",
    "\x1b",
    [],
    {},
    [[]],
    {"a": 1},
)


def test_file_with_one_changed_value(small_corpus: Path, place: Path) -> None:
    """The digest is right, so only the checks of the values protect the process."""
    load(small_corpus)
    (path,) = place.glob("*/ids")
    ids, good = split_file(path.read_bytes())
    for number, location in enumerate(locations(good)):
        if location[0] == "key" and len(location) > 1:
            continue
        for other in OTHER_VALUES[number % 4 :: 4]:
            document = copy.deepcopy(good)
            inner = document
            for key in location[:-1]:
                inner = inner[key]
            inner[location[-1]] = other
            path.write_bytes(join_file(ids, document))
            corpus = load_corpus(data_config(small_corpus))
            assert list(corpus.splits) == ["train", "valid", "test"]
            assert len(corpus.splits["train"].ids) == 680
            assert corpus.splits["test"].ids.max() < len(corpus.vocabulary)


def test_file_with_hostile_structure(small_corpus: Path, place: Path) -> None:
    load(small_corpus)
    (path,) = place.glob("*/ids")
    content = path.read_bytes()
    ids, good = split_file(content)
    swapped = {**good, "ranges": dict(reversed(good["ranges"].items()))}
    fewer = {**good, "ranges": {"train": good["ranges"]["train"]}}
    as_json = json.dumps(good).encode()
    for hostile in (
        join_file(b"\xff" * len(ids), good),
        join_file(ids[:-1], good),
        join_file(b"", good),
        join_file(ids, swapped),
        join_file(ids, fewer),
        join_file(ids, b"[" * 100_000),
        join_file(ids, b'{"key":' * 50_000 + b"1" + b"}" * 50_000),
        join_file(ids, b"1" * 100_000),
        join_file(ids, b'{"key": ' + b"[]," * 10**6 + b"1}"),
        join_file(ids, as_json.replace(b'"notes"', b'"notes": [], "notes"')),
        join_file(ids, as_json[:-1] + b"\xff}"),
        with_digest(ids + as_json + (2**63).to_bytes(8, "little")),
        with_digest(ids + as_json + (len(content) * 9).to_bytes(8, "little")),
        with_digest(b""),
        with_digest(b"\0" * 8),
    ):
        path.write_bytes(hostile)
        load(small_corpus)
        assert path.read_bytes() == content


@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_mutated_file_with_a_right_digest(
    small_corpus: Path, place: Path, data: st.DataObject
) -> None:
    load_corpus(data_config(small_corpus))
    (path,) = place.glob("*/ids")
    path.write_bytes(with_digest(data.draw(mutated(path.read_bytes()[:-32]))))
    corpus = load_corpus(data_config(small_corpus))
    assert all(text.ids.max() < len(corpus.vocabulary) for text in corpus.splits.values())
    path.unlink()
