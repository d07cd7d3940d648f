"""Finds files that are shipped with ptblm: the configs and the sample corpus."""

from pathlib import Path


def shipped_directory(name: str) -> Path:
    """Returns the path of a shipped directory ("configs", "data/sample").

    A wheel installs the directory inside the package. In a checkout, it is at the repository root.
    """
    package = Path(__file__).parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / name
