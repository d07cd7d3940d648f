"""The directory of an export: complete or absent, and replaced only on request."""

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ptblm.errors import UsageError
from ptblm.files import os_errors

CARD = "README.md"
_FILES = {
    *(CARD, "model.safetensors", "config.yaml", "vocabulary.json", "model.onnx"),
    *("config.json", "modeling_ptblm.py", "tokenizer.json", "tokenizer_config.json"),
}
_OTHER = "pass another directory with -o"


def check_target(target: Path, *, overwrite: bool) -> None:
    """Checks that an export can create, or replace, a directory.

    Args:
        target: the directory.
        overwrite: whether to allow an existing export. A directory with any other file is never
            deleted, so that a mistyped path is harmless.

    Raises:
        UsageError: if it cannot.
    """
    with os_errors(UsageError, "-o: cannot be created", where=target):
        if not target.absolute().parent.is_dir():
            raise UsageError(
                "-o: its parent directory does not exist",
                where=str(target),
                hint="create the parent directory",
            )
        if not os.path.lexists(target):
            return
        if not overwrite:
            raise UsageError(
                "the directory of the export exists",
                where=str(target),
                hint=f"{_OTHER}, or --overwrite to replace it",
            )
        problem = "is a file or a link"
        if target.is_dir() and not target.is_symlink():
            names = sorted(os.listdir(target))
            foreign = next((name for name in names if name not in _FILES), None)
            if foreign is None and CARD in names:
                return
            problem = f"contains {foreign}" if foreign else "does not contain an export of ptblm"
    raise UsageError(
        f"the directory of the export {problem}, so --overwrite does not delete it",
        where=str(target),
        hint=_OTHER,
    )


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Yields a temporary directory that becomes `target` when the block succeeds.

    Raises:
        UsageError: if the files cannot be written. An existing directory is then unchanged.
    """
    with os_errors(UsageError, "the export cannot be written", where=target):
        parent = target.absolute().parent
        # The name of a directory that can hardly be created itself is cut.
        prefix = f"{target.name[:100]}."
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=prefix, suffix=".part"))
        try:
            temporary.chmod(0o755)
            yield temporary
            _replace(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _replace(new: Path, target: Path) -> None:
    """Renames a directory to `target`, and deletes the directory that was there.

    Raises:
        OSError: if it cannot be renamed; `target` is then unchanged.
    """
    if not target.exists():
        new.rename(target)
        return
    old = new.with_name(f"{new.name}.{secrets.token_hex(4)}")
    target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
