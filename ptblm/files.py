"""Atomic file writes, strict JSON, path expansion and shell quoting.

A written file always contains either its old content or its new content, never a part of it.
"""

import contextlib
import errno
import io
import json
import math
import os
import shlex
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

TEMPORARY_SUFFIX = ".part"
MAX_JSON_BYTES = 10_000_000


def expand_path(text: str) -> Path:
    """Returns a path with `~` and `$VARIABLE` expanded as in a shell.

    An existing file or directory of exactly this name has priority. An unknown user or variable
    stays as it is.
    """
    if os.path.lexists(text):
        return Path(text)
    return Path(os.path.expandvars(os.path.expanduser(text)))


def shell_join(words: Iterable[str]) -> str:
    r"""Returns a command line that a shell splits into `words`, free of control characters.

    A word with control characters or bytes that are not UTF-8 is written as `$'a\xffb'`, which
    bash and zsh understand.
    """
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    escaped = "".join(
        {"\\": "\\\\", "'": "\\'"}.get(character, character)
        if character.isprintable()
        else "".join(f"\\x{byte:02x}" for byte in os.fsencode(character))
        for character in word
    )
    return f"$'{escaped}'"


@contextlib.contextmanager
def replacing(path: Path, check: Callable[[Path], None] | None = None) -> Iterator[IO[bytes]]:
    """Opens a temporary file that replaces `path` when the block succeeds.

    The temporary file is on the disk and has passed `check` before it is renamed to `path`. If the
    process is killed or the disk is full, the old file is unchanged.

    Args:
        path: the file to replace; it need not exist.
        check: called with the path of the temporary file; an exception keeps the old file.

    Yields:
        The temporary file, opened for writing bytes.

    Raises:
        OSError: if the file cannot be written.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with _create(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if check is not None:
            check(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_directory(path.parent)


def _create(path: Path) -> IO[bytes]:
    """Creates a file that did not exist, so that nothing is written through a link.

    An old file or link of this name, which a killed process may have left, is removed.
    """
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666), "wb")


def open_regular(path: Path) -> io.FileIO:
    """Opens a regular file for reading.

    Raises:
        OSError: if it is not a regular file, such as a named pipe, which could block forever; or
            if it cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return io.FileIO(descriptor)


def strict_json(content: dict[str, Any], indent: int | None = None) -> str:
    """Returns standard JSON, in which NaN and infinity become null."""
    return json.dumps(_finite(content), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces the content of a file with indented strict JSON.

    Raises:
        OSError: if the file cannot be written.
    """
    write_text(path, strict_json(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file, or an empty dict if there is no valid JSON object."""
    try:
        with open_regular(path) as file:
            content = json.loads(file.read(MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def write_text(path: Path, text: str) -> None:
    """Replaces the content of a file with UTF-8 text.

    Raises:
        OSError: if the file cannot be written.
    """
    with replacing(path) as file:
        file.write(text.encode())


def _sync_directory(directory: Path) -> None:
    """Writes a directory's entries to the disk, on systems that support it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
