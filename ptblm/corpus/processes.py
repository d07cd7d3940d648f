"""Runs functions on the parts of a large text in other processes.

The processes are new interpreters that import only what they need. Forked ones would inherit the
threads of torch; those of `multiprocessing` would run the main module of a user's program again.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import ptblm

_LENGTH_SIZE = 8  # in bytes
_MAX_PROCESSES = 8
# The directory of ptblm is on the path only while ptblm is imported.
_CODE = (
    "import sys; sys.path.insert(0, sys.argv[1]); import ptblm; del sys.path[0]; "
    "from ptblm.corpus.processes import run_job; run_job()"
)

# A process, and the file to which it writes.
Process = tuple[subprocess.Popen[bytes], IO[bytes]]


def available_processes() -> int:
    """Returns how many processes can run at the same time."""
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), _MAX_PROCESSES)
    return min(os.cpu_count() or 1, _MAX_PROCESSES)


class Outcome:
    """What a process wrote: any bytes, then a JSON document.

    Attributes:
        file: the bytes, at their start. The JSON document follows them.
        document: the JSON document.
    """

    def __init__(self, file: IO[bytes]) -> None:
        end = file.seek(-_LENGTH_SIZE, os.SEEK_END)
        length = int.from_bytes(file.read(_LENGTH_SIZE), "little")
        file.seek(end - length)
        self.document: dict[str, Any] = json.loads(file.read(length))
        self.file = file
        file.seek(0)


@contextmanager
def running(
    function: str, jobs: Sequence[dict[str, Any]], directory: Path | None = None
) -> Iterator[list[Process]]:
    """Starts a process for each job, and ends those that still run after the block.

    Args:
        function: module and name of a function, such as "ptblm.corpus.parts:encode". It receives a
            job and a file for bytes, and returns the JSON document.
        jobs: the jobs, as JSON values.
        directory: directory for temporary files; None for that of the system.

    Raises:
        OSError: if a process cannot be started.
    """
    root = str(Path(ptblm.__file__).parent.parent)
    with ExitStack() as stack:
        started: list[Process] = []
        for _ in jobs:
            file = stack.enter_context(tempfile.TemporaryFile(dir=directory))
            process = subprocess.Popen(  # noqa: S603 - this interpreter and constant arguments
                [sys.executable, "-P", "-c", _CODE, root],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.DEVNULL,
                # Ctrl-C is for this process, which ends the others.
                process_group=0 if os.name == "posix" else None,
            )
            stack.callback(_end, process)
            started.append((process, file))
        for (process, _), job in zip(started, jobs, strict=True):
            _send(process, json.dumps({"function": function, "job": job}).encode())
        yield started


def outcomes(processes: Sequence[Process]) -> list[Outcome] | None:
    """Waits for processes and returns what they wrote; None if one of them failed."""
    codes = [process.wait() for process, _ in processes]
    return None if any(codes) else [Outcome(file) for _, file in processes]


def run_job() -> None:
    """Runs the job in the first line of stdin and writes its outcome to stdout."""
    request = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    module, name = request["function"].split(":")
    out = sys.stdout.buffer
    document = getattr(importlib.import_module(module), name)(request["job"], out)
    text = json.dumps(document).encode()
    out.write(text)
    out.write(len(text).to_bytes(_LENGTH_SIZE, "little"))
    out.flush()


def _exit_with_parent() -> None:
    """Ends this process when its stdin is closed, because the parent was killed."""
    os.read(0, 1)
    os._exit(1)


def _send(process: subprocess.Popen[bytes], text: bytes) -> None:
    if process.stdin is not None:
        # A process that failed does not read; its exit code reports it.
        with suppress(BrokenPipeError):
            process.stdin.write(text + b"\n")
            process.stdin.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    process.kill()
    process.wait()
