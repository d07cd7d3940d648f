"""Has the C library keep freed memory for the next step."""

import contextlib
import ctypes
import sys

# <malloc.h> of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGEST = 2**30
_LARGEST_OF_OLD = 2**25  # which C libraries before 2.35 accept


def keep_freed_memory() -> None:
    """Ends the giving back of large blocks to the system, for the whole process.

    A step frees and asks again for the same blocks of megabytes; each time the system gave them
    anew, page by page, filled with zeros. Kept, a step of the small model in torch's own modules
    took 39 ms instead of 50 (docs/performance.md). Where there is no GNU C library, nothing
    happens.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        # First, and only with it the other: any of them ends the library's own adaptation.
        if mallopt(_M_MMAP_THRESHOLD, _LARGEST) or mallopt(_M_MMAP_THRESHOLD, _LARGEST_OF_OLD):
            mallopt(_M_TRIM_THRESHOLD, _LARGEST)
