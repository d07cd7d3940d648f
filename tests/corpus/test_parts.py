"""Large texts are encoded in parts: ids, vocabulary and messages are those of one process."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptblm.corpus import corpus as corpus_module
from ptblm.corpus import parts, processes
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.source import read_file
from ptblm.errors import DataError
from tests.conftest import plain_environment
from tests.corpus.helpers import data_config, raw


@pytest.fixture
def divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Texts of any size are divided into three parts; returns the path of a text."""
    monkeypatch.setattr(corpus_module, "MIN_CACHED_SIZE", 1)
    monkeypatch.setattr(parts, "MIN_SIZE", 1)
    monkeypatch.setattr(parts, "MIN_PART_SIZE", 1)
    monkeypatch.setattr(parts, "available_processes", lambda: 3)
    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "text.txt"


@contextlib.contextmanager
def in_this_process(
    function: str, jobs: Sequence[dict[str, Any]], _: Path | None = None
) -> Iterator[list[Any]]:
    """Runs the jobs one after the other, with the same exchange of data as in processes."""
    name = function.split(":")[1]
    done: list[io.BytesIO | None] = []
    for job in jobs:
        out = io.BytesIO()
        try:
            document = getattr(parts, name)(json.loads(json.dumps(job)), out)
        except Exception:  # a process ends with an exit code
            done.append(None)
            continue
        text = json.dumps(document).encode()
        out.write(text + len(text).to_bytes(8, "little"))
        done.append(out)
    yield done


def collect(done: list[Any]) -> list[processes.Outcome] | None:
    return None if None in done else [processes.Outcome(out) for out in done]


def load(path: Path, tokenizer: str, *, are_divided: bool, **keys: Any) -> Corpus | str:
    """The corpus, or the message of the error."""
    with pytest.MonkeyPatch.context() as patch:
        if not are_divided:
            patch.setattr(parts, "MIN_SIZE", sys.maxsize)
        try:
            return load_corpus(data_config(path, tokenizer, **keys))
        except DataError as error:
            return f"{error.where}: {error.what}"
        finally:
            for ids in Path(os.environ["PTBLM_CACHE"]).glob("*/ids"):
                ids.unlink()


def assert_equal(ours: Corpus | str, theirs: Corpus | str) -> None:
    if isinstance(ours, str) or isinstance(theirs, str):
        assert ours == theirs
        return
    assert ours.vocabulary.as_dict() == theirs.vocabulary.as_dict()
    assert ours.notes == theirs.notes
    for split, text in theirs.splits.items():
        assert np.array_equal(ours.splits[split].ids, text.ids)
        assert ours.splits[split].unknown == text.unknown
        assert ours.splits[split].sha256 == text.sha256


PIECES = [
    "a",
    "b c",
    "é",
    "<unk>",
    "\n",
    "\n",
    " ",
    "\u00a0",
    "\u2003x",
    "</s>",
    "UNK",
    "\t",
    "ß" * 20,
]
ODD = {
    "CR LF": b"the cat\r\nsat on\r\n" * 30,
    "invalid UTF-8": b"the cat\n" * 20 + b"\xff\xfe\n" + b"dog\n" * 20,
    "zero byte": b"the cat\n" * 20 + b"a\0b\n" + b"dog\n" * 20,
    "one long line": b"word other " * 300,
    "a long line between short ones": b"a b\n" * 9 + b"long line " * 500 + b"\n" + b"c d\n" * 9,
    "long words": (b"x" * 5000 + b" y\n") * 9,
    "tiny": b"a b c\nd e\nf\n",
    "no newline at the end": b"the cat sat\n" * 30 + b"the end",
    "blank lines": b"\n\n\nthe cat\n\n\n" * 20,
    "wide spaces": "the\u00a0cat\u2003sat\u3000down\n".encode() * 40,
    "sentence marks": b"<s> the cat </s>\n" * 40,
    "spellings of <unk>": b"the [UNK] cat <oov>\n" * 40,
    "possible <unk>": b"the UNK cat\n" * 40,
    "with <unk>": b"the <unk> cat\n" * 30 + b"rare words here\n",
    "new words in each part": "".join(f"w{n} w{n % 7} é{n}\n" for n in range(400)).encode(),
    "zero-width spaces": "the\u200bcat \ufeffsat\n".encode() * 40,
    "spaced characters": b"t h e _ c a t\n" * 40,
}


@pytest.mark.parametrize("tokenizer", ["word", "char"])
@pytest.mark.parametrize("kind", ODD)
def test_odd_texts_are_read_as_by_one_process(
    kind: str, tokenizer: str, divided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "running", in_this_process)
    monkeypatch.setattr(parts, "outcomes", collect)
    divided.write_bytes(ODD[kind])
    ours = load(divided, tokenizer, are_divided=True)
    assert_equal(ours, load(divided, tokenizer, are_divided=False))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from(PIECES), min_size=30, max_size=120), st.integers(1, 3))
def test_any_text_is_read_as_by_one_process(
    divided: Path, pieces: list[str], min_count: int
) -> None:
    divided.write_text(" ".join(pieces) * 4, newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "running", in_this_process)
        patch.setattr(parts, "outcomes", collect)
        rule = {"vocabulary": {"min_count": min_count}}
        ours = load(divided, "word", are_divided=True, **rule)
    assert_equal(ours, load(divided, "word", are_divided=False, **rule))


def test_processes_give_the_same_corpus(
    divided: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="ptblm")
    monkeypatch.setattr(parts, "available_processes", lambda: 2)
    divided.write_bytes(ODD["new words in each part"])
    found: list[int] = []

    def count(started: Sequence[processes.Process]) -> list[processes.Outcome] | None:
        result = processes.outcomes(started)
        found.append(0 if result is None else len(result))
        return result

    monkeypatch.setattr(parts, "outcomes", count)
    ours = load(divided, "word", are_divided=True)
    assert found == [2, 2]  # cleaned, then encoded
    assert_equal(ours, load(divided, "word", are_divided=False))
    assert not any("in one process" in message for message in caplog.messages)


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "import os; os.kill(os.getpid(), 9)"])
def test_failed_process_is_replaced(
    code: str, divided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided.write_bytes(ODD["with <unk>"])
    monkeypatch.setattr(processes, "_CODE", code)
    ours = load(divided, "word", are_divided=True)
    assert_equal(ours, load(divided, "word", are_divided=False))


def test_processes_end_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after Ctrl-C or an error."""
    monkeypatch.setattr(processes, "_CODE", "import time; time.sleep(60)")
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), processes.running("x:y", [{}, {}]) as started:
        raise KeyboardInterrupt
    assert [process.returncode for process, _ in started] == [-signal.SIGKILL] * 2
    assert time.monotonic() - start < 30


def test_processes_do_not_import_torch() -> None:
    code = "import ptblm.corpus.parts, ptblm.corpus.processes, sys; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=plain_environment(), capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


def test_parts_are_whole_lines_of_similar_size(divided: Path) -> None:
    divided.write_bytes(b"one two three\n" * 100)
    found = parts.divide(read_file(divided))
    assert b"".join(map(raw, found)) == divided.read_bytes()
    assert [raw(part)[-1:] for part in found] == [b"\n"] * 3
    assert max(part.size for part in found) - min(part.size for part in found) <= 2 * 14


def test_small_texts_are_read_in_one_process(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a b\n")
    os.truncate(path, parts.MIN_SIZE - 1)
    assert parts.divide(read_file(path)) == []


def test_two_processes_encode_a_text_once(
    divided: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The second one waits for the lock of the cache, and maps the same file."""
    monkeypatch.setattr(parts, "running", in_this_process)
    monkeypatch.setattr(parts, "outcomes", collect)
    caplog.set_level("DEBUG", logger="ptblm")
    divided.write_bytes(ODD["with <unk>"])
    corpora: list[Corpus] = []
    started = threading.Barrier(2)

    def load_it() -> None:
        started.wait()
        corpora.append(load_corpus(data_config(divided)))

    threads = [threading.Thread(target=load_it) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert_equal(*corpora)
    assert sum("encoded the text and wrote" in message for message in caplog.messages) == 1
