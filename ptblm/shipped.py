"""Finds files that are shipped with ptblm: the configs and the sample corpus."""

from pathlib import Path


def shipped_directory(name: str) -> Path:
    """Returns the path of a shipped directory ("configs", "data/sample").

    The directory is inside the package if ptblm was installed from a wheel, and at the top of the
    repository in a checkout.
    """
    package = Path(__file__).parent
    installed = package / name
    return installed if installed.is_dir() else package.parent / name
