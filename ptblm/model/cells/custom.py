"""Loads custom cells, which configs and checkpoints specify as "my_module:MyCell".

An untrusted checkpoint must not be able to run arbitrary code. Therefore ptblm first parses the
module and executes it only if it defines the specified class as a subclass of a ptblm cell.
"""

import ast
import hashlib
import logging
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from ptblm.errors import ConfigError
from ptblm.model.cells.cell import Cell

logger = logging.getLogger(__name__)

_HINT = "see docs/custom-cells.md for how to write a cell and where ptblm looks for it"


def load_cell_class(name: str) -> type[Cell]:
    """Returns the class that `name` specifies, such as "my_module:MyCell".

    The module is searched for in the current directory, then on the Python path.

    Raises:
        ConfigError: if the module is missing, cannot be executed, or does not define the class as
            a subclass of a ptblm cell.
    """
    module_name, _, class_name = name.partition(":")
    path = _find(module_name)
    if path is None:
        raise _error(f"no file {module_name}.py in the current directory or on Python's path")
    try:
        source = path.read_bytes()
        tree = ast.parse(source)
    except SyntaxError as error:
        raise _error(f"not valid Python: {error.msg}", f"{path}:{error.lineno}") from None
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise _error(f"cannot read the file: {error}", path) from None
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


def source_hash(name: str) -> str:
    """Returns the SHA-256 of the file that defines a custom cell, or "" if it cannot be read."""
    path = _find(name.partition(":")[0])
    try:
        return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


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
