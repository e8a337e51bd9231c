"""Where the memory of large arrays comes from.

A system hands out a large array as fresh pages, clears each when it is first written to, and takes all of them back
when the array is freed. Over 100,000 frames every step of a fit makes such arrays anew, and clearing pages can take as
long as the arithmetic.
"""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # mallopt(3)


def keep_freed_memory() -> bool:
    """Let this process keep what it frees for its next arrays, and return whether that could be arranged.

    For a process whose work is the fit of long recordings (`strflab fit` does it); it holds its largest size until it
    ends. In Linux's usual C library only, elsewhere nothing changes. Call it before the large arrays are made.

    Examples
    --------
    >>> kept = keep_freed_memory()
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return bool(mallopt(MMAP_MAX, 0)) and bool(mallopt(TRIM_THRESHOLD, -1))
