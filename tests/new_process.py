"""Runs commands in new processes that need not import torch, which takes most of a short command.

A server process imports ptblm once, and forks for each command. No state leaks from one command to
the next. Tests of the start of the interpreter itself run `python -m ptblm`.
"""

import contextlib
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
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
    arguments: list[str], *, cwd: Path, env: dict[str, str], stdin: str = "", timeout: float = 300
) -> "subprocess.CompletedProcess[str]":
    """Runs `ptblm ARGUMENTS` in a new process, as `subprocess.run` would.

    Args:
        arguments: the arguments after "ptblm".
        cwd: the current directory.
        env: the environment.
        stdin: standard input, through a pipe.
        timeout: in seconds; after it, the process is killed.

    Raises:
        TimeoutExpired: if the process was killed.
    """
    return StartedCommand(arguments, cwd=cwd, env=env, stdin=stdin).wait(timeout)


class StartedCommand:
    """`ptblm ARGUMENTS` in a new process; see `run_command` for the arguments.

    Attributes:
        pid: number of the process.
    """

    def __init__(
        self, arguments: list[str], *, cwd: Path, env: dict[str, str], stdin: str = ""
    ) -> None:
        read_end, write_end = os.pipe()
        self._arguments = arguments
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `wait`
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._writer = threading.Thread(target=_write, args=(write_end, stdin.encode()))
        streams = _Streams(read_end, self._output.fileno(), self._errors.fileno())
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


class _Streams:
    """Descriptors of stdin, stdout and stderr, which reach the new process when it is started."""

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = descriptors

    def __getstate__(self) -> list[Any]:
        return [DupFd(descriptor) for descriptor in self._descriptors]

    def __setstate__(self, duplicates: list[Any]) -> None:
        for target, duplicate in enumerate(duplicates):
            os.dup2(duplicate.detach(), target)


def _command(arguments: list[str], cwd: Path, env: dict[str, str], _streams: _Streams) -> None:
    from ptblm import __main__ as module  # its import runs nothing
    from ptblm.cli import main

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
