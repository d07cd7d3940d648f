"""Finds what ptblm ships beside its code: the configs and the sample corpus."""

from pathlib import Path


def shipped_directory(name: str) -> Path:
    """The directory `name` ("configs", "data/sample") that came with ptblm.

    Installed from a wheel it lies inside the package; in a checkout, at the repository's top.
    """
    package = Path(__file__).parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / name
