"""Cells that people write themselves, named in a config as module:Class.

A checkpoint names its cell, too, and a stranger's checkpoint must not choose what code runs. So
before anything is imported, its source is found and read: only a file that defines the class and
imports ptblm's `Cell` is taken for one.
"""

import ast
import hashlib
import importlib
import sys
from pathlib import Path

from ptblm.errors import ConfigError
from ptblm.model.cells.cell import Cell

_HINT = (
    "a file of yours that defines it, in this directory or on PYTHONPATH: see docs/your-own-cell.md"
)


def load_cell_class(name: str) -> type[Cell]:
    """The class that "module:Class" names; the current directory counts as first on the path.

    Raises:
        ConfigError: if there is none, it is no cell, or its module can't be imported.
    """
    module_name, _, class_name = name.partition(":")
    path = _find_source(module_name)
    if path is None:
        raise ConfigError(f"model.cell: no module '{module_name}' is to be found", hint=_HINT)
    if not _defines_cell(path, class_name):
        raise ConfigError(
            f"model.cell: no class '{class_name}' here that is a cell", where=str(path), hint=_HINT
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:  # it is somebody's code: anything may happen
        raise ConfigError(
            f"model.cell: {name} can't be imported: {type(error).__name__}: {error}",
            where=str(path),
        ) from error
    if not (isinstance(found, type) and issubclass(found, Cell)):
        raise ConfigError(f"model.cell: {name} is no subclass of Cell", where=str(path), hint=_HINT)
    return found


def source_hash(name: str) -> str:
    """The sha256 of the file that "module:Class" is defined in; empty if there is none."""
    path = _find_source(name.partition(":")[0])
    return "" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()


def _find_source(module_name: str) -> Path | None:
    """The module's file, found without running its package's code."""
    below = Path(*module_name.split("."))
    for base in [Path.cwd(), *map(Path, sys.path)]:
        for candidate in (below.with_suffix(".py"), below / "__init__.py"):
            if (base / candidate).is_file():
                return base / candidate
    return None


def _defines_cell(path: Path, class_name: str) -> bool:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return False
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ptblm.model")
        for alias in node.names
    }
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return class_name in defined and bool(imported)
