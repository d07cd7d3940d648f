"""Loads custom cells, which configs and checkpoints specify as "my_module:MyCell".

A custom cell is code. A module that a config or a checkpoint names is executed only if the user
typed the name of the cell or has trained with the same file, and only if the module defines the
class as a subclass of a ptblm cell.
"""

import ast
import contextlib
import hashlib
import logging
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from ptblm import consent
from ptblm.errors import ConfigError
from ptblm.files import open_regular
from ptblm.model.cells.cell import Cell
from ptblm.paths import shell_join

logger = logging.getLogger(__name__)

_MAX_BYTES = 1_000_000
_HINT = "see docs/custom-cells.md for how to write a cell and where ptblm looks for it"


def load_cell_class(name: str) -> type[Cell]:
    """Returns the class that `name` specifies, such as "my_module:MyCell".

    The module is searched for in the current directory, then on the Python path. It is executed
    only if the user has agreed; see `ptblm.consent`.

    Raises:
        ConfigError: if the user has not agreed, or the module is missing, cannot be executed, or
            does not define the class as a subclass of a ptblm cell.
    """
    module_name, _, class_name = name.partition(":")
    path = _find(module_name)
    if path is None:
        raise _error(f"no file {module_name}.py in the current directory or on Python's path")
    try:
        source = _read(path)
        _check_agreement(name, path, source)
        tree = ast.parse(source)
    except SyntaxError as error:
        raise _error(f"not valid Python: {error.msg}", f"{path}:{error.lineno}") from None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _error(f"cannot read the file: {reason}", path) from None
    if class_name not in _defined_cells(tree):
        raise _error(
            f"the file does not define a class {class_name}(Cell), with Cell imported from "
            "ptblm.model.cells.cell",
            path,
        )
    cell_class = getattr(_execute(module_name, path, source), class_name, None)
    if not (isinstance(cell_class, type) and issubclass(cell_class, Cell)):
        raise _error(f"{class_name} is not a subclass of Cell", path)
    return cell_class


def remember_cell(name: str) -> None:
    """Records that the user has trained with the file that defines a custom cell."""
    path = _find(name.partition(":")[0])
    with contextlib.suppress(OSError, ValueError):  # the file may have changed since it was loaded
        if path is not None:
            consent.remember("cell", _description(path, _read(path)))


def _description(path: Path, source: bytes) -> str:
    """Returns what identifies a file: other files of its directory could run with it."""
    return f"{os.path.realpath(path)}\n{hashlib.sha256(source).hexdigest()}"


def _check_agreement(name: str, path: Path, source: bytes) -> None:
    """Raises ConfigError unless the user typed the name or has trained with the same file."""
    if not consent.is_allowed("cell", name) and not consent.is_remembered(
        "cell", _description(path, source)
    ):
        raise ConfigError(
            f"the custom cell {name} is code that you have not trained with",
            where=str(path),
            hint=f"if you trust this file, pass {shell_join(['--cell', name])} to run it",
        )


def source_hash(name: str) -> str:
    """Returns the SHA-256 of the file that defines a custom cell, or "" if it cannot be read."""
    path = _find(name.partition(":")[0])
    try:
        return "" if path is None else hashlib.sha256(_read(path)).hexdigest()
    except (OSError, ValueError):
        return ""


def _read(path: Path) -> bytes:
    """Reads the source of a cell.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is too large for a cell.
    """
    with open_regular(path) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it has more than {_MAX_BYTES:,} bytes")
    return content


def _find(module_name: str) -> Path | None:
    """Returns the .py file that Python would import; None if not found or a package."""
    spec = PathFinder.find_spec(module_name, [str(Path.cwd()), *sys.path])
    if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
        return None
    return Path(spec.origin) if spec.origin.endswith(".py") else None


def _defined_cells(tree: ast.Module) -> set[str]:
    """Returns the classes of a file that derive from a ptblm cell, directly or indirectly."""
    cells = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ptblm.model.cells.")
        for alias in node.names
    }
    defined = set()
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            if bases & cells:
                cells.add(node.name)
                defined.add(node.name)
    return defined


def _execute(name: str, path: Path, source: bytes) -> ModuleType:
    """Executes checked source code, once per process, and returns the module."""
    imported = sys.modules.get(name)
    if imported is not None and getattr(imported, "__file__", None) == str(path):
        return imported
    logger.info("running %s, which defines the cell", path)
    module = ModuleType(name)
    module.__file__ = str(path)
    # The module may import other modules from the same directory.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - checked by the caller
    except (Exception, SystemExit) as error:  # user code can raise any exception
        raise _error(f"running the file failed: {type(error).__name__}: {error}", path) from error
    sys.modules.setdefault(name, module)
    return module


def _error(what: str, where: str | Path | None = None) -> ConfigError:
    return ConfigError(f"model.cell: {what}", where=str(where) if where else None, hint=_HINT)
