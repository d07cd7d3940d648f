"""What a process may be given: closed streams, and streams and paths that are not UTF-8."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint
from tests.conftest import REPOSITORY, plain_environment
from tests.run.helpers import default_signals, wait_for

TINY = ["--set", "model.hidden_size=4", "--set", "training.batch_size=50"]


def ptblm(
    *arguments: object, cwd: Path, environment: dict[str, str] | None = None, redirections: str = ""
) -> "subprocess.CompletedProcess[bytes]":
    """Runs `ptblm` by a shell, which can close streams, in another locale if asked."""
    command = [sys.executable, "-m", "ptblm", *map(str, arguments)]
    return subprocess.run(
        ["sh", "-c", f"exec {shlex.join(command)} {redirections}"],
        cwd=cwd,
        env={**plain_environment(), **(environment or {})},
        capture_output=True,
        timeout=300,
    )


def assert_whole(run: Path) -> None:
    """Nothing that was meant for a stream got into a file of the run."""
    assert all(json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert json.loads((run / "environment.json").read_text())["command"]
    assert (run / "config.yaml").read_text().startswith("# ")
    load_checkpoint(run / "checkpoints" / "last.safetensors")


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_run_needs_no_open_streams(redirections: str, tmp_path: Path) -> None:
    train = ["train", "--data", "sample", *TINY, "--set", "training.epochs=1", "--run-dir", "run"]
    result = ptblm(*train, cwd=tmp_path, redirections=redirections)
    assert result.returncode == 0, result.stderr
    assert b"bug" not in result.stderr
    assert_whole(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 1
    # A closed stdin is an empty text.
    result = ptblm("eval", "run", "--text", "-", cwd=tmp_path, redirections="<&-")
    assert result.returncode == 3
    assert result.stderr.startswith(b"error: the text is empty")


def test_a_message_to_a_closed_stderr_gets_into_no_file(tmp_path: Path) -> None:
    """The first file that is opened would get the number of the closed stream."""
    train = [sys.executable, "-m", "ptblm", "train", "--data", "sample", *TINY]
    more = ["--set", "training.epochs=50", "--set", "run.log_every=1", "--run-dir", "run"]
    process = subprocess.Popen(
        ["sh", "-c", f"exec {shlex.join([*train, *more])} 2>&-"],
        cwd=tmp_path,
        env=plain_environment(),
        stdout=subprocess.DEVNULL,
        preexec_fn=default_signals,
    )
    wait_for(tmp_path / "run" / "metrics.jsonl")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert_whole(tmp_path / "run")


POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def corpus_in(directory: Path) -> Path:
    directory.mkdir()
    for split in ("train", "valid", "test"):
        text = (REPOSITORY / "data" / "sample" / f"{split}.txt").read_bytes()
        (directory / f"{split}.txt").write_bytes(text)
    return directory


def test_streams_that_know_ascii_alone(tmp_path: Path) -> None:
    corpus = corpus_in(tmp_path / "kürpüs")
    ascii_streams = {"PYTHONIOENCODING": "ascii"}
    train = ["train", "--data", corpus, *TINY, "--set", "training.epochs=1", "--run-dir", "rün"]
    trained = ptblm(*train, cwd=tmp_path, environment=ascii_streams)
    assert trained.returncode == 0, trained.stderr
    assert rb"k\xfcrp\xfcs: 247 words" in trained.stderr
    for arguments in (["eval", "rün"], ["eval", "rün", "--text", corpus / "test.txt"]):
        scored = ptblm(*arguments, cwd=tmp_path, environment=ascii_streams)
        assert scored.returncode == 0, scored.stderr
        assert rb"r\xfcn" in scored.stdout
        assert rb"k\xfcrp\xfcs" in scored.stdout


def test_paths_that_are_no_text_are_a_clear_line(tmp_path: Path) -> None:
    """In a locale of ASCII alone, or with bytes that are no UTF-8, a config can't name them."""
    corpus_in(tmp_path / "kürpüs")
    for environment in ({}, POSIX):
        odd = "kürpüs" if environment else os.fsdecode(b"odd\xff")
        train = ["train", "--data", odd, *TINY, "--run-dir", "run"]
        result = ptblm(*train, cwd=tmp_path, environment=environment)
        assert result.returncode == 2
        assert result.stderr.startswith(b"error: --data: data.path: expected text in UTF-8")
    # Nor can it name a good directory within one.
    within = tmp_path / os.fsdecode(b"odd\xff")
    within.mkdir()
    corpus_in(within / "corpus")
    train = ["train", "--data", "corpus", *TINY, "--run-dir", "run"]
    result = ptblm(*train, cwd=within)
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: --data: data.path: expected text in UTF-8")
    assert sorted(path.name for path in within.iterdir()) == ["corpus"]
