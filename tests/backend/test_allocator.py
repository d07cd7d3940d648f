"""Freed memory stays with the process, so that a step finds it again."""

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
    """Whether there is the GNU C library, and a system that gives memory by small pages."""
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return not huge.exists() or "[always]" not in huge.read_text()


@pytest.mark.skipif(not faults_tell(), reason="needs the GNU C library and small pages")
def test_a_block_that_was_freed_is_used_again() -> None:
    """Large blocks otherwise come from the system each time, which fills them page by page."""
    whole = BLOCKS * MEGABYTES * 2**20
    assert bytes_faulted_in("given back") > 0.9 * whole
    # Some may come anew where the system takes idle memory back by itself.
    assert bytes_faulted_in("kept") < 0.5 * whole
