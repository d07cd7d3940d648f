"""Keeps freed memory in the process, so that the next training step reuses it."""

import contextlib
import ctypes
import sys

# <malloc.h> of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_MAX_THRESHOLD = 2**30
_MAX_THRESHOLD_BEFORE_2_35 = 2**25


def keep_freed_memory() -> None:
    """Makes glibc keep freed blocks instead of returning them to the operating system.

    A training step frees and allocates the same blocks of several megabytes. By default glibc
    returns them to the system, which then provides new zeroed pages one at a time. With this
    setting, a step of the small model in plain PyTorch takes 39 ms instead of 50 ms
    (docs/performance.md). The setting applies to the whole process and has no effect without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        # Setting either threshold disables the dynamic thresholds of glibc, so set both or neither.
        if mallopt(_M_MMAP_THRESHOLD, _MAX_THRESHOLD) or mallopt(
            _M_MMAP_THRESHOLD, _MAX_THRESHOLD_BEFORE_2_35
        ):
            mallopt(_M_TRIM_THRESHOLD, _MAX_THRESHOLD)
