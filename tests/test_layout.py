"""The structure of the package: layers, no circular imports, documented and short files."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ptblm"

# From the lowest to the highest. A package imports from itself and from lower layers only.
LAYERS = [
    {"ptblm"},
    {"errors", "paths", "shipped", "terminal"},
    {"files", "progress_bar"},
    {"consent", "json_files"},
    {"config"},
    {"corpus", "backend"},
    {"checkpoint", "model"},
    {"evaluation"},
    {"training"},
    {"reporting"},
    {"run"},
    {"api"},
    {"cli"},
    {"__main__"},
]
# Packages that import nothing else of ptblm and are imported by nothing.
ISOLATED = {"reference"}
# `ptblm --help` imports these, so they import neither torch nor numpy.
LIGHT = ["cli", "config", "errors", "files", "json_files", "paths", "shipped", "terminal"]
FILES = sorted(PACKAGE.rglob("*.py"))


def package_of(module: str) -> str:
    """The part of ptblm that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def layer_of(module: str) -> int:
    return next(index for index, names in enumerate(LAYERS) if package_of(module) in names)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def is_for_type_checkers(node: ast.stmt) -> bool:
    """Whether a statement is `if TYPE_CHECKING:`, whose imports are not executed."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@cache
def imports(path: Path) -> set[str]:
    """The modules that a file imports, imports inside functions included."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if not is_for_type_checkers(node)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & MODULES or {node.module}
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_to_lower_layers(path: Path) -> None:
    importer = module_of(path)
    for imported in imports(path):
        if imported.split(".")[0] != "ptblm" or package_of(importer) == package_of(imported):
            continue
        message = f"{importer} imports {imported}"
        assert not {package_of(importer), package_of(imported)} & ISOLATED, message
        assert layer_of(imported) < layer_of(importer), message


def test_no_circular_imports() -> None:
    graph = {module_of(path): imports(path) for path in FILES}
    done: set[str] = set()

    def visit(module: str, importers: tuple[str, ...]) -> None:
        assert module not in importers, " -> ".join([*importers, module])
        if module in done:
            return
        for imported in graph.get(module, ()):
            if imported in graph:
                visit(imported, (*importers, module))
        done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("package", LIGHT)
def test_torch_and_numpy_are_not_imported_for_help(package: str) -> None:
    for path in FILES:
        if package_of(module_of(path)) == package:
            heavy = {"torch", "numpy"} & {name.split(".")[0] for name in imports(path)}
            assert not heavy, path


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_are_documented_and_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), path
    assert len(text.splitlines()) <= 300
