"""The dependency files agree: pyproject.toml, constraints-oldest.txt and constraints.txt."""

import re
import tomllib

from tests.conftest import REPOSITORY


def lower_bounds() -> dict[str, str]:
    """The lower bounds of the core dependencies and of some extras."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    bounds = {}
    project = tomllib.loads(text)["project"]
    extras = project["optional-dependencies"]
    others = [name for key in ("plot", "export", "sweep", "tokenizers") for name in extras[key]]
    for requirement in project["dependencies"] + others:
        match = re.fullmatch(r"([a-z]+)>=([0-9.]+)(,<[0-9.]+)?", requirement)
        assert match, requirement
        bounds[match[1]] = match[2]
    return bounds


def pinned(name: str) -> dict[str, str]:
    """The versions that a constraints file pins."""
    lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {package: version.removesuffix(".*") for package, version in pairs}


def test_oldest_constraints_are_the_lower_bounds() -> None:
    assert pinned("constraints-oldest.txt") == lower_bounds()


def test_tested_versions_are_at_least_the_lower_bounds() -> None:
    def numeric(version: str) -> list[int]:
        return [int(part) for part in version.split(".")]

    bounds, tested = lower_bounds(), pinned("constraints.txt")
    assert tested.keys() >= {"torch", "matplotlib", "onnx", "onnxruntime"}
    for package, version in tested.items():
        assert numeric(version) >= numeric(bounds[package]), package
