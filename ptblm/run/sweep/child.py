"""Trains a run in a child process, which ends with its worker and is controlled by it.

Signals to a whole job, such as Ctrl-C in a terminal or the signals of Slurm, would reach the child
in addition to the one that its worker sends, and a second signal ends a run without a save. The
child therefore ignores them, except SIGINT, and has its own process group.
"""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ptblm.errors import CheckpointError, DataError, DivergedError, PtblmError, UsageError
from ptblm.files import open_regular
from ptblm.reporting.history import read_epochs
from ptblm.run.directory import RunDirectory
from ptblm.run.signals import StopSignal
from ptblm.run.sweep.directory import TrialFiles
from ptblm.training.records import EpochDone

FINISHED, DIVERGED, STOPPED = 0, DivergedError.exit_code, 128 + signal.SIGINT
_SECONDS = 0.2  # between two reads of the metrics
_MAX_LOG = 20_000  # bytes at the end of a log that are searched for the error
_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def train_in_child(
    command: Sequence[str],
    files: TrialFiles,
    stop: StopSignal,
    is_enough: Callable[[list[EpochDone]], bool],
) -> int:
    """Trains a run to its end, or until it is stopped and saved.

    Args:
        command: the command that starts the run or resumes it.
        files: the paths of the run.
        stop: whether this process received a stop signal.
        is_enough: receives all completed epochs when there are new ones; returns whether to stop.

    Returns:
        FINISHED, DIVERGED or STOPPED.

    Raises:
        PtblmError: if the run failed otherwise, with its message.
        CheckpointError: if the metrics cannot be read.
        OSError: if the child cannot be started.
    """
    directory = RunDirectory(files.run)
    if directory.result.exists() or directory.diverged.exists():  # its worker was killed
        is_enough(read_epochs(directory.metrics))
        return FINISHED if directory.result.exists() else DIVERGED
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(files.log, flags, 0o666), "ab") as log:
        child = subprocess.Popen(  # noqa: S603 - the command is ptblm's own
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=_obey_worker(os.getpid()),
        )
    try:
        code = _wait(child, directory.metrics, stop, is_enough)
    finally:
        if child.poll() is None:  # an error of this process
            child.send_signal(signal.SIGINT)
            child.wait()
    if code in (FINISHED, DIVERGED):
        return code
    if code in (STOPPED, -signal.SIGINT):
        return STOPPED
    raise _error_of(files, code)


def _wait(
    child: "subprocess.Popen[bytes]",
    metrics: Path,
    stop: StopSignal,
    is_enough: Callable[[list[EpochDone]], bool],
) -> int:
    """Waits until a child ends, and stops it once if requested. Returns its exit code."""
    known, size, is_stopping = 0, -1, False
    while True:
        try:
            code: int | None = child.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        previous, size = size, metrics.stat().st_size if metrics.exists() else 0
        epochs = read_epochs(metrics) if size != previous else []
        is_complete = len(epochs) > known and is_enough(epochs)
        known = max(known, len(epochs))
        if code is not None:
            return code
        if (stop.received is not None or is_complete) and not is_stopping:
            child.send_signal(signal.SIGINT)
            is_stopping = True


def _obey_worker(worker: int) -> Callable[[], None]:
    """Returns the function that makes the child ignore other signals and end with its worker.

    Only Linux ends it with its worker. Elsewhere, it continues to its end, and keeps its lock.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def prepare() -> None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if libc is not None:
            libc.prctl(_SET_DEATH_SIGNAL, signal.SIGINT)
        if os.getppid() != worker:  # it was killed before the call
            os._exit(STOPPED)

    return prepare


def _error_of(files: TrialFiles, code: int) -> PtblmError:
    """Returns the error that a child printed at the end of its log."""
    classes: dict[int, type[PtblmError]] = {3: DataError, 4: CheckpointError}
    if code < 0:
        name = signal.Signals(-code).name
        hint = "the process may have run out of memory" if -code == signal.SIGKILL else None
        return UsageError(f"the run was ended by {name}", where=str(files.log), hint=hint)
    with open_regular(files.log) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _MAX_LOG))
        lines = file.read(_MAX_LOG).decode("utf-8", "replace").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    found = lines[starts[-1] :] if starts else lines[-1:]
    hints = [line.removeprefix("  hint: ") for line in found if line.startswith("  hint: ")]
    problems = [line.removeprefix("error: ") for line in found if not line.startswith("  hint: ")]
    error_class = classes.get(code, UsageError)
    return error_class(
        problems or [f"the run ended with exit code {code}"],
        where=str(files.log),
        hint=hints[0] if hints else None,
    )
