"""Runs the command line as a user to whom permissions apply, even if the tests run as root."""

import ctypes
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import plain_environment

_PR_CAPBSET_DROP = 24
# CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER: root ignores permissions.
_CAPABILITIES = (1, 2, 3)


@dataclass(frozen=True)
class Unprivileged:
    """Runs `ptblm ARGS...` in `directory`."""

    directory: Path

    def run(
        self, *arguments: object, timeout: float = 60, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return self.python("-m", "ptblm", *arguments, timeout=timeout, **environment)

    def python(
        self, *arguments: object, timeout: float = 60, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.directory,
            env={**plain_environment(), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            preexec_fn=_drop_capabilities if os.geteuid() == 0 else None,
        )


def unprivileged(directory: Path) -> Unprivileged:
    """A user to whom the permissions of files apply; skips the test if there is none."""
    locked = directory / "locked-for-a-check"
    locked.touch(mode=0)
    user = Unprivileged(directory)
    if "PermissionError" not in user.python("-Sc", f"open({str(locked)!r})").stderr:
        pytest.skip("root's capabilities cannot be dropped")
    locked.unlink()
    return user


def _drop_capabilities() -> None:
    libc = ctypes.CDLL(None)
    for capability in _CAPABILITIES:
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
