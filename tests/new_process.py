"""Runs commands in new processes that need not import torch, which takes most of a short command.

A server process imports ptblm once, and forks for each command. No state leaks from one command to
the next. Tests of the start of the interpreter itself run `python -m ptblm`.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any, BinaryIO

MODULES = [
    *("ptblm.api", "ptblm.cli.commands", "ptblm.run.train", "ptblm.run.dry_run"),
    *("ptblm.run.tune_eval", "ptblm.run.import_model", "ptblm.reporting.console"),
]

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*MODULES, __name__])


def run_command(
    arguments: list[str],
    *,
    cwd: Path,
    env: dict[str, str],
    stdin: str = "",
    merged: bool = False,
    timeout: float = 300,
) -> "subprocess.CompletedProcess[str]":
    """Runs `ptblm ARGUMENTS` in a new process, as `subprocess.run` would.

    Args:
        arguments: the arguments after "ptblm".
        cwd: the current directory.
        env: the environment.
        stdin: standard input, through a pipe.
        merged: whether the output on stderr is returned with that on stdout.
        timeout: in seconds; after it, the process is killed.

    Raises:
        TimeoutExpired: if the process was killed.
    """
    return StartedCommand(arguments, cwd=cwd, env=env, stdin=stdin, merged=merged).wait(timeout)


class StartedCommand:
    """`ptblm ARGUMENTS` in a new process; see `run_command` for the arguments.

    Attributes:
        pid: number of the process.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        cwd: Path,
        env: dict[str, str],
        stdin: str = "",
        merged: bool = False,
    ) -> None:
        read_end, write_end = os.pipe()
        self._arguments = arguments
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `wait`
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._writer = threading.Thread(target=_write, args=(write_end, stdin.encode()))
        errors = self._output if merged else self._errors
        streams = _Streams(read_end, self._output.fileno(), errors.fileno())
        self._process = CONTEXT.Process(target=_command, args=(arguments, cwd, env, streams))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        os.close(read_end)
        self._writer.start()

    def wait(self, timeout: float = 300) -> "subprocess.CompletedProcess[str]":
        """Waits for the end of the process, and returns its exit code and output.

        Raises:
            TimeoutExpired: if the process was killed.
        """
        self._process.join(timeout)
        is_late = self._process.is_alive()
        if is_late:
            self._process.kill()
            self._process.join()
        self._writer.join()
        with self._output, self._errors:
            texts = [_content(self._output), _content(self._errors)]
        if is_late:
            raise subprocess.TimeoutExpired(self._arguments, timeout, *texts)
        assert self._process.exitcode is not None
        return subprocess.CompletedProcess(self._arguments, self._process.exitcode, *texts)


class PipedCommand:
    """`ptblm ARGUMENTS` in a new process whose streams are pipes, as `subprocess.Popen` starts it.

    Args:
        arguments: the arguments after "ptblm".
        cwd: the current directory.
        env: the environment.

    Attributes:
        pid: number of the process.
        stdin: the writable end of its standard input.
        stdout: the readable end of its standard output.
        stderr: the readable end of its standard error.
    """

    def __init__(self, arguments: list[str], *, cwd: Path, env: dict[str, str]) -> None:
        self._arguments = arguments
        (stdin, write_end), (read_end, stdout), (error_end, stderr) = (os.pipe() for _ in range(3))
        streams = _Streams(stdin, stdout, stderr)
        self._process = CONTEXT.Process(target=_command, args=(arguments, cwd, env, streams))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        for end in (stdin, stdout, stderr):
            os.close(end)
        self.stdin = os.fdopen(write_end, "w")
        self.stdout = os.fdopen(read_end)
        self.stderr = os.fdopen(error_end)

    @property
    def returncode(self) -> int | None:
        """The exit code, the negative number of a signal, or None if the process is running."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Returns the exit code, or None if the process is running."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 300) -> int:
        """Waits for the end of the process, and returns its exit code.

        Raises:
            TimeoutExpired: if it did not end in time.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._arguments, timeout)
        return self.returncode

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        """Closes standard input, waits for the end, and returns the output on stdout and stderr.

        Raises:
            TimeoutExpired: if the process did not end in time.
        """
        with self.stdout, self.stderr, ThreadPoolExecutor(2) as readers:
            with contextlib.suppress(BrokenPipeError):
                self.stdin.close()
            texts = [readers.submit(pipe.read) for pipe in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()  # which ends the readers
                raise
            return texts[0].result(), texts[1].result()


class _Streams:
    """Descriptors of stdin, stdout and stderr, which reach the new process when it is started."""

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = descriptors

    def __getstate__(self) -> list[Any]:
        return [DupFd(descriptor) for descriptor in self._descriptors]

    def __setstate__(self, duplicates: list[Any]) -> None:
        for target, duplicate in enumerate(duplicates):
            os.dup2(duplicate.detach(), target)


def default_signals() -> None:
    """Restores the signals that a shell or `nohup` may have set to be ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _command(arguments: list[str], cwd: Path, env: dict[str, str], _streams: _Streams) -> None:
    from ptblm import __main__ as module  # its import runs nothing
    from ptblm.cli import main

    default_signals()
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path.insert(0, str(cwd))
    sys.argv = [str(module.__file__), *arguments]
    streams = [os.fdopen(n, "w" if n else "r", closefd=False) for n in range(3)]
    sys.stdin, sys.stdout, sys.stderr = streams
    main()


def _write(descriptor: int, content: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), open(descriptor, "wb") as pipe:
        pipe.write(content)


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()
