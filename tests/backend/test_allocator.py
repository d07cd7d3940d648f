"""Freed memory stays in the process and is reused."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import plain_environment

BLOCKS, MEGABYTES = 30, 64

SCRIPT = f"""
import resource, torch
from ptblm.backend.allocator import keep_freed_memory

def print_bytes_faulted_in():
    torch.empty({MEGABYTES} * 2**20, dtype=torch.uint8).fill_(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({BLOCKS}):
        torch.empty({MEGABYTES} * 2**20, dtype=torch.uint8).fill_(1)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())

print_bytes_faulted_in()
keep_freed_memory()
print_bytes_faulted_in()
"""


def faults_tell() -> bool:
    """Whether page faults are a measure: glibc, and small pages."""
    if sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"):
        return False
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return not huge.exists() or "[always]" not in huge.read_text()


@pytest.mark.skipif(not faults_tell(), reason="needs the GNU C library and small pages")
def test_freed_blocks_are_reused() -> None:
    """By default the system provides each large block page by page."""
    command = [sys.executable, "-c", SCRIPT]
    run = subprocess.run(
        command, env=plain_environment(), capture_output=True, text=True, check=True
    )
    by_default, kept = map(int, run.stdout.split())
    whole = BLOCKS * MEGABYTES * 2**20
    assert by_default > 0.9 * whole
    assert kept < 0.5 * whole  # not zero: the system may reclaim idle memory
