"""Closed streams, full disks, unread pipes, and streams and paths that are not UTF-8."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint
from tests.conftest import FAST, REPOSITORY, plain_environment
from tests.new_process import default_signals
from tests.run.helpers import wait_for

TINY = ["--set", "model.hidden_size=4", "--set", "training.batch_size=50"]


def run_in_shell(
    *arguments: object, cwd: Path, environment: dict[str, str] | None = None, redirections: str = ""
) -> "subprocess.CompletedProcess[bytes]":
    """Runs `ptblm` from a shell, which can close streams."""
    command = [sys.executable, "-m", "ptblm", *map(str, arguments)]
    return subprocess.run(
        ["sh", "-c", f"exec {shlex.join(command)} {redirections}"],
        cwd=cwd,
        env={**plain_environment(), **(environment or {})},
        capture_output=True,
        timeout=300,
    )


def assert_intact(run: Path) -> None:
    """Checks that no output for a stream was written to a file of the run."""
    assert all(json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert json.loads((run / "environment.json").read_text())["command"]
    assert (run / "config.yaml").read_text().startswith("# ")
    load_checkpoint(run / "checkpoints" / "last.safetensors")


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_run_without_open_streams(redirections: str, tmp_path: Path) -> None:
    train = ["train", "--data", "sample", *TINY, "--set", "training.epochs=1", "--run-dir", "run"]
    result = run_in_shell(*train, cwd=tmp_path, redirections=redirections)
    assert result.returncode == 0, result.stderr
    assert b"bug" not in result.stderr
    assert_intact(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "result.json").read_text())["epochs"] == 1


def test_closed_stdin_is_read_as_an_empty_text(finished_run: Path, tmp_path: Path) -> None:
    evaluate = ["eval", finished_run, "--text", "-"]
    result = run_in_shell(*evaluate, cwd=tmp_path, redirections="<&-")
    assert result.returncode == 3
    assert result.stderr.startswith(b"error: the text is empty")


def test_messages_to_a_closed_stderr_are_not_written_to_files(tmp_path: Path) -> None:
    """The first file that is opened could get the descriptor of the closed stream."""
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
    assert_intact(tmp_path / "run")


POSIX = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def copy_sample(directory: Path) -> Path:
    directory.mkdir()
    for split in ("train", "valid", "test"):
        text = (REPOSITORY / "data" / "sample" / f"{split}.txt").read_bytes()
        (directory / f"{split}.txt").write_bytes(text)
    return directory


def test_ascii_streams(tmp_path: Path) -> None:
    corpus = copy_sample(tmp_path / "kürpüs")
    ascii_streams = {"PYTHONIOENCODING": "ascii"}
    train = ["train", "--data", corpus, *TINY, "--set", "training.epochs=1", "--run-dir", "rün"]
    trained = run_in_shell(*train, cwd=tmp_path, environment=ascii_streams)
    assert trained.returncode == 0, trained.stderr
    assert rb"k\xfcrp\xfcs: 247 words" in trained.stderr
    for arguments in (["eval", "rün"], ["eval", "rün", "--text", corpus / "test.txt"]):
        scored = run_in_shell(*arguments, cwd=tmp_path, environment=ascii_streams)
        assert scored.returncode == 0, scored.stderr
        assert rb"r\xfcn" in scored.stdout
        assert rb"k\xfcrp\xfcs" in scored.stdout


def test_paths_that_are_not_utf8_are_an_error(tmp_path: Path) -> None:
    """A config is UTF-8, so it cannot contain them."""
    copy_sample(tmp_path / "kürpüs")
    for environment in ({}, POSIX):
        odd = "kürpüs" if environment else os.fsdecode(b"odd\xff")
        train = ["train", "--data", odd, *TINY, "--run-dir", "run"]
        result = run_in_shell(*train, cwd=tmp_path, environment=environment)
        assert result.returncode == 2
        assert result.stderr.startswith(b"error: --data: data.path: expected text in UTF-8")
    # The same applies to a relative path, which is made absolute.
    within = tmp_path / os.fsdecode(b"odd\xff")
    within.mkdir()
    copy_sample(within / "corpus")
    train = ["train", "--data", "corpus", *TINY, "--run-dir", "run"]
    result = run_in_shell(*train, cwd=within)
    assert result.returncode == 2
    assert result.stderr.startswith(b"error: --data: data.path: expected text in UTF-8")
    assert sorted(path.name for path in within.iterdir()) == ["corpus"]


def test_closed_pipe_does_not_end_a_run(tmp_path: Path, small_corpus: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ptblm", "train", "--data", small_corpus, "--run-dir", "run", *FAST],
        cwd=tmp_path,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 0, errors
    assert "warning: cannot write to stdout" in errors
    assert (tmp_path / "run" / "result.json").is_file()


# Commands that write to stdout, and the exit code without a failure.
OUTPUT = [
    ("--help", 0),
    ("--version", 0),
    ("", 2),
    ("train --help", 0),
    ("config list", 0),
    ("config show small", 0),
    ("--show-completion bash", 0),
    ("eval RUN --json", 0),
]
FULL = (
    b"error: cannot write to standard output: No space left on device\n"
    b"  hint: free disk space, or redirect the output elsewhere\n"
)


def run_to(stdout: int, *arguments: str, **environment: str) -> tuple[int, bytes]:
    """Runs `ptblm` with a descriptor as stdout; returns its exit code and stderr."""
    code = "import sys; sys.argv[0] = 'ptblm'; import ptblm.cli; ptblm.cli.main()"
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**plain_environment(), **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
    )
    return result.returncode, result.stderr


@pytest.fixture
def full() -> Iterator[int]:
    """A descriptor that behaves as a file on a full disk."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def unread() -> Iterator[int]:
    """The descriptor of a pipe that nothing reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize(("command", "code"), OUTPUT)
def test_stdout_that_fails(
    command: str, code: int, full: int, unread: int, tmp_path: Path, finished_run: Path
) -> None:
    words = [str(finished_run) if word == "RUN" else word for word in command.split()]
    assert run_to(full, *words) == (2, FULL)
    assert run_to(unread, *words) == (141, b"")
    closed = run_in_shell(*words, cwd=tmp_path, redirections=">&-")
    assert (closed.returncode, closed.stderr.strip()) == (code, b"")


def test_completion_to_stdout_that_fails(full: int, unread: int) -> None:
    completion = {"COMP_WORDS": "ptblm tr", "COMP_CWORD": "1"}
    assert run_to(full, _PTBLM_COMPLETE="complete_bash", **completion) == (2, FULL)
    assert run_to(unread, _PTBLM_COMPLETE="complete_bash", **completion) == (141, b"")


@pytest.mark.parametrize("command", ["train --foo", "tarin", "config show nothing"])
@pytest.mark.parametrize("redirections", ["2> /dev/full", "2>&-", ">&- 2>&-"])
def test_errors_without_a_reader(command: str, redirections: str, tmp_path: Path) -> None:
    result = run_in_shell(*command.split(), cwd=tmp_path, redirections=redirections)
    assert result.returncode == 2
    assert (result.stdout, result.stderr) == (b"", b"")


def test_text_is_not_printed_twice_after_a_stop_signal() -> None:
    """The signal arrives after the text is written and before Python's buffer knows it."""
    script = """
import io, os, signal
from ptblm import terminal
from ptblm.run.signals import clean_up_on_stop

class Interrupted(io.FileIO):
    def write(self, data):
        written = super().write(data)
        os.kill(os.getpid(), signal.SIGTERM)
        return written

terminal._StandardStream.__bases__ = (Interrupted,)
terminal.open_standard_streams()
clean_up_on_stop()
terminal.print_output(["dog"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=plain_environment(),
        preexec_fn=default_signals,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "dog\n", "")
