"""Freed memory stays in the process and is reused."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import plain_environment

BLOCKS, MEGABYTES = 30, 64

SCRIPT = f"""
import resource, sys, torch
from ptblm.backend.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
torch.empty({MEGABYTES} * 2**20, dtype=torch.uint8).fill_(1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({BLOCKS}):
    torch.empty({MEGABYTES} * 2**20, dtype=torch.uint8).fill_(1)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""


def bytes_faulted_in(how: str) -> int:
    command = [sys.executable, "-c", SCRIPT, how]
    run = subprocess.run(
        command, env=plain_environment(), capture_output=True, text=True, check=True
    )
    return int(run.stdout)


def faults_tell() -> bool:
    """Whether page faults are a measure: glibc, and small pages."""
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return not huge.exists() or "[always]" not in huge.read_text()


@pytest.mark.skipif(not faults_tell(), reason="needs the GNU C library and small pages")
def test_freed_blocks_are_reused() -> None:
    """By default the system provides each large block page by page."""
    whole = BLOCKS * MEGABYTES * 2**20
    assert bytes_faulted_in("given back") > 0.9 * whole
    # Not zero: the system may reclaim idle memory.
    assert bytes_faulted_in("kept") < 0.5 * whole
