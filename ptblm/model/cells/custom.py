"""Cells that people write themselves, named in a config as my_module:MyCell.

A checkpoint names its cell, too, and a stranger's checkpoint must not choose what code runs. So
the module's file is found and read first, and only if its text defines that class as one of
ptblm's cells does what was read run.
"""

import ast
import hashlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from ptblm.errors import ConfigError
from ptblm.model.cells.cell import Cell

_HINT = "docs/custom-cells.md says how a cell is written and where it is looked for"


def load_cell_class(name: str) -> type[Cell]:
    """The class that "my_module:MyCell" names; the current directory is first on the path.

    Raises:
        ConfigError: if there is none, it is no cell, or its module fails.
    """
    module_name, _, class_name = name.partition(":")
    path = _find(module_name)
    if path is None:
        _refuse(f"no file {module_name}.py is here or on Python's path")
    try:
        source = path.read_bytes()
        tree = ast.parse(source)
    except SyntaxError as error:
        _refuse(f"not Python: {error.msg}", f"{path}:{error.lineno}")
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        _refuse(f"can't be read: {error}", str(path))
    if class_name not in _cells_defined(tree):
        _refuse(
            f"no class {class_name}(Cell) here, with Cell from ptblm.model.cells.cell", str(path)
        )
    module = _run(module_name, path, source)
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Cell)):
        _refuse(f"{class_name} is no subclass of Cell", str(path))
    return found


def source_hash(name: str) -> str:
    """The sha256 of the file that defines "my_module:MyCell"; empty if there is none."""
    path = _find(name.partition(":")[0])
    try:
        return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _find(module_name: str) -> Path | None:
    """The module's file, as Python would find it; a package is no cell's file."""
    spec = PathFinder.find_spec(module_name, [str(Path.cwd()), *sys.path])
    if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
        return None
    return Path(spec.origin) if spec.origin.endswith(".py") else None


def _cells_defined(tree: ast.Module) -> set[str]:
    """The classes in a file that have one of ptblm's cells as a base, directly or not."""
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


def _run(name: str, path: Path, source: bytes) -> ModuleType:
    """The module made from what was read, once in a process."""
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    print(f"note: running {path}, which defines the cell", file=sys.stderr)
    module = ModuleType(name)
    module.__file__ = str(path)
    # What it imports may lie beside it.
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        exec(compile(source, path, "exec"), module.__dict__)  # noqa: S102 - it was read above
    except (Exception, SystemExit) as error:  # it is somebody's code: anything may happen
        _refuse(f"it failed: {type(error).__name__}: {error}", str(path), error)
    sys.modules.setdefault(name, module)
    return module


def _refuse(what: str, where: str | None = None, cause: BaseException | None = None) -> NoReturn:
    raise ConfigError(f"model.cell: {what}", where=where, hint=_HINT) from cause
