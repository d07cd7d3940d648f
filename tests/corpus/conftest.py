"""Fixtures for tests of the corpus."""

from pathlib import Path

import pytest

from tests.unprivileged import Unprivileged, unprivileged


@pytest.fixture
def user(tmp_path: Path) -> Unprivileged:
    """A user to whom the permissions of files apply, in an empty directory."""
    return unprivileged(tmp_path)
