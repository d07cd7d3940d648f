"""The house stands: no upward import, no circle, no file without a purpose or too long."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ptblm"

# From the ground up; a room may import from itself and from all floors below.
FLOORS = [
    {"ptblm"},
    {"errors", "files", "lock", "shipped", "reference"},
    {"config", "corpus", "backend"},
    {"checkpoint", "model"},
    {"evaluation"},
    {"training"},
    {"reporting"},
    {"run"},
    {"cli"},
    {"__main__"},
]
FILES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, inside of functions too."""
    modules = {module_of(file) for file in FILES}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & modules or {node.module}
    return found


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down(path: Path) -> None:
    ours = module_of(path)
    for theirs in imports(path):
        if theirs.split(".")[0] != "ptblm":
            continue
        same_room = room(ours) == room(theirs)
        assert same_room or floor(theirs) < floor(ours), f"{ours} imports {theirs}"


def test_no_circle() -> None:
    graph = {module_of(path): imports(path) for path in FILES}

    def walk(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above, module])
        for below in graph.get(module, ()):
            if below in graph:
                walk(below, (*above, module))

    for module in graph:
        walk(module, ())


@pytest.mark.parametrize("room_name", ["cli", "config", "errors", "files", "lock", "shipped"])
def test_torch_is_not_imported_to_say_help(room_name: str) -> None:
    for path in FILES:
        if room(module_of(path)) == room_name:
            heavy = {"torch", "numpy"} & {name.split(".")[0] for name in imports(path)}
            assert not heavy, path


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_file_says_what_it_is_for_and_is_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)), path
    assert len(text.splitlines()) <= 300
