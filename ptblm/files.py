"""Files: atomic writes, safe opening of files from strangers, errors of the operating system.

A written file always contains either its old content or its new content, never a part of it.
"""

import contextlib
import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from ptblm.errors import PtblmError, UsageError

# A temporary file is called NAME.XXXXXXXX.part, so that nobody can create it beforehand.
TEMPORARY_PATTERN = r"\.[0-9a-f]{8}\.part"

_O_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_O_BINARY = getattr(os, "O_BINARY", 0)

_HINTS = {
    errno.EACCES: "check the permissions of the path",
    errno.EPERM: "check the permissions of the path",
    errno.EROFS: "the file system is read-only: remount it, or use another directory",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.ENOSPC: "free disk space, or use another disk",
    errno.EDQUOT: "free disk space, or use another disk",
    errno.EFBIG: "raise the limit of the file size (`ulimit -f`)",
    errno.ELOOP: "replace the symbolic link, which is part of a loop or must not be followed",
    errno.EISDIR: "pass a file, not a directory",
    errno.ENOTDIR: "check the path: a part of it is a link or a file, not a directory",
    errno.EIO: "check the disk or the network file system",
    errno.ESTALE: "check the network file system, then try again",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "close other programs: too many files are open on this machine",
}
# Errors that any other path would cause too.
_OF_ANY_PATH = {errno.EMFILE, errno.ENFILE}


@contextlib.contextmanager
def os_errors(
    error_class: type[PtblmError],
    problem: str = "cannot be read",
    *,
    where: Path | str | None = None,
    fallback: Path | str | None = None,
    hint: str | None = None,
) -> Iterator[None]:
    """Re-raises an OSError in the block as an error of ptblm; see `described`.

    Raises:
        PtblmError: of class `error_class`.
    """
    try:
        yield
    except OSError as error:
        raise described(
            error, error_class, problem, where=where, fallback=fallback, hint=hint
        ) from None


def described(
    error: OSError,
    error_class: type[PtblmError],
    problem: str = "cannot be read",
    *,
    where: Path | str | None = None,
    fallback: Path | str | None = None,
    hint: str | None = None,
) -> PtblmError:
    """Returns an error of the operating system as an error of ptblm.

    Args:
        error: the error.
        error_class: the class of the returned error.
        problem: what is wrong; the reason of the operating system follows.
        where: the path to report; None for the path of the OSError.
        fallback: the path to report if the OSError has none.
        hint: what else to do, after the advice for this error of the operating system. It is left
            out if another path would not help.
    """
    # The file name can also be a descriptor.
    is_path = isinstance(error.filename, str | bytes | os.PathLike)
    found = os.fsdecode(error.filename) if is_path else None
    place = where or (found and re.sub(f"{TEMPORARY_PATTERN}$", "", found)) or fallback
    hints = [_HINTS.get(error.errno or 0), None if error.errno in _OF_ANY_PATH else hint]
    return error_class(
        f"{problem}: {error.strerror or error}",
        where=None if place is None else str(place),
        hint="; ".join(filter(None, hints)) or None,
    )


def advice(error: OSError) -> str:
    """Returns what to do about an error of the operating system."""
    return _HINTS.get(error.errno or 0, "check the path and the disk")


def open_regular(path: Path, *, private: bool = False) -> io.FileIO:
    """Opens a regular file for reading.

    Args:
        path: the file.
        private: whether the file must belong to the user and must not be a symbolic or hard link,
            so that nobody else can have written it or put it there.

    Raises:
        OSError: if it is not a regular file, such as a named pipe, which could block forever; or
            if it cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _O_BINARY
    descriptor = os.open(path, flags | (_O_NOFOLLOW if private else 0))
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if private and not (belongs_to_user(status) and has_one_name(status)):
            raise OSError(errno.EPERM, "the file is a link or belongs to another user", str(path))
        return io.FileIO(descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def make_private_directory(path: Path) -> None:
    """Creates a directory that only the user can access (mode 0700), and its missing parents.

    Raises:
        OSError: if the path is a link, belongs to another user, or cannot be created.
    """
    if not path.parent.exists():
        make_private_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.ENOTDIR, "not a directory but a link or a file", str(path))
    if not belongs_to_user(status):
        raise OSError(errno.EPERM, "the directory belongs to another user", str(path))
    if stat.S_IMODE(status.st_mode) & 0o077:
        path.chmod(0o700)


def belongs_to_user(status: os.stat_result) -> bool:
    """Returns whether a file or directory belongs to the user of this process."""
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()


def has_one_name(status: os.stat_result) -> bool:
    """Returns whether a file is a regular file, and not a symbolic or hard link to another one."""
    return stat.S_ISREG(status.st_mode) and status.st_nlink <= 1


def check_new_output(path: Path, what: str, *, overwrite: bool) -> None:
    """Checks that a result can be written to the file of `--to`, before it is computed.

    Args:
        path: the file.
        what: what it will contain, such as "plot", for messages.
        overwrite: whether to replace the file if it exists.

    Raises:
        UsageError: if it exists or cannot be created.
    """
    with os_errors(UsageError, "--to: cannot be written", where=path):
        check_output(path)
        exists = os.path.lexists(path)
    if exists and not overwrite:
        raise UsageError(
            f"the {what} file exists",
            where=str(path),
            hint="pass --overwrite to replace it, or another file with --to",
        )


def check_output(path: Path, inputs: Iterable[Path] = ()) -> None:
    """Checks that a file that the user named for output is regular, or can be created.

    `replacing` would replace a link or a device, such as /dev/stdout.

    Args:
        path: the file.
        inputs: the files that the same command reads, which must not be replaced.

    Raises:
        OSError: if it is anything else, its directory does not exist, or it is one of the inputs.
    """
    if not stat.S_ISDIR(path.parent.stat().st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent))
    with contextlib.suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if any(each.exists() and path.samefile(each) for each in inputs):
            raise OSError(errno.EINVAL, "the same command reads this file", str(path))


@contextlib.contextmanager
def replacing(path: Path, check: Callable[[Path], None] | None = None) -> Iterator[IO[bytes]]:
    """Opens a temporary file that replaces `path` when the block succeeds.

    The temporary file is on the disk and has passed `check` before it is renamed to `path`. If the
    process is killed or the disk is full, the old file is unchanged. A link is replaced, never
    followed.

    Args:
        path: the file to replace; it need not exist.
        check: called with the path of the temporary file; an exception keeps the old file.

    Yields:
        The temporary file, opened for writing bytes.

    Raises:
        OSError: if the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _O_NOFOLLOW | _O_BINARY
    try:
        with os.fdopen(os.open(temporary, flags, 0o666), "wb") as file:
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


def remove_temporary_files(directory: Path, names: str) -> None:
    """Removes the temporary files that killed processes left in a directory.

    Args:
        directory: the directory.
        names: regular expression of the names of the files that were to be replaced.

    Raises:
        OSError: if the directory cannot be read, or a file cannot be removed.
    """
    pattern = re.compile(f"({names}){TEMPORARY_PATTERN}")
    for name in os.listdir(directory):
        if pattern.fullmatch(name):
            (directory / name).unlink(missing_ok=True)


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
