"""Has the C library keep freed memory for the next step."""

import contextlib
import ctypes
import sys

# <malloc.h> of the GNU C library.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_AS_MUCH_AS_IT_TAKES = 2**30


def keep_freed_memory() -> None:
    """Ends the giving back of large blocks to the system, for the whole process.

    A step frees and asks again for the same blocks of megabytes; each time the system gave them
    anew, page by page, filled with zeros. Kept, a plain step of the small model took 39 ms
    instead of 50 (docs/performance.md). Where there is no GNU C library, nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_TRIM_THRESHOLD, _AS_MUCH_AS_IT_TAKES)
        mallopt(_M_MMAP_THRESHOLD, _AS_MUCH_AS_IT_TAKES)
