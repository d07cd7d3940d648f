"""Runs the command line on untrusted input within bounds of time, memory and files."""

import contextlib
import os
import signal
import time
from pathlib import Path
from types import FrameType

from tests.in_process import ptblm

MAX_SECONDS = 5
MAX_BYTES = 300_000_000  # in addition to three times the size of the input


def bounded(
    *arguments: object, codes: set[int], surroundings: Path, size: int = 0
) -> tuple[int, str, str]:
    """Runs a command, which must end with a message, in time and memory, and change nothing else.

    Args:
        arguments: the arguments of the command.
        codes: the exit codes that are allowed besides 0.
        surroundings: a directory that must not change.
        size: size of the input in bytes.

    Returns:
        The exit code, stderr and stdout.
    """
    before, memory, start = _snapshot(surroundings), _restart_peak_memory(), time.monotonic()
    handler = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(4 * MAX_SECONDS)
    try:
        code, errors, output = ptblm(*arguments)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
    seconds, more = time.monotonic() - start, _peak_memory() - memory
    assert code in {0, *codes}, errors
    assert "Traceback" not in errors
    if code:
        assert "error: " in errors or ": bad, " in output, errors
    assert {character for character in errors if not character.isprintable()} <= {"\n"}, errors
    unprintable = {character for character in output if not character.isprintable()}
    assert unprintable <= {"\n", "\t"}, unprintable  # tabs separate the columns of tables
    assert seconds < MAX_SECONDS
    assert more < 3 * size + MAX_BYTES
    assert _snapshot(surroundings) == before
    return code, errors, output


def _hangs(_number: int, _frame: FrameType | None) -> None:
    raise AssertionError("the command hangs")


def _restart_peak_memory() -> int:
    """Restarts the measurement of the peak memory, and returns the current memory in bytes."""
    with contextlib.suppress(OSError):  # not Linux
        Path("/proc/self/clear_refs").write_text("5")
    return _peak_memory()


def _peak_memory() -> int:
    """Returns the peak memory of this process in bytes, since the measurement was restarted."""
    if not Path("/proc/self/status").exists():
        return 0
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _snapshot(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Returns mode and content of everything in a directory, without following links."""
    found = {}
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(parent, name)
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            found[str(path)] = path.lstat().st_mode, content
    return found
