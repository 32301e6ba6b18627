"""Memory that was freed stays with the process: training and scoring ask for the same sizes again and again.

glibc gives every large block back to the system and gets it anew as pages that have to be cleared, which can take
longer than what is computed in them.  The most that is held at any time does not change.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
LARGEST = 2**31 - 1  # bytes: an int of C


@cache
def keep_freed_memory() -> bool:
    """Once a process; whether it is so: not where memory is another library's, or the user has said how."""
    if any(os.environ.get(name) for name in SET_BY_USER):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return all(mallopt(option, LARGEST) == 1 for option in (TRIM_THRESHOLD, MMAP_THRESHOLD))


def give_back() -> None:
    """Freed memory goes back to the system now, so that what is measured next is not what was there before."""
    with suppress(AttributeError, OSError, TypeError):  # not glibc, which gives back at once
        ctypes.CDLL(None).malloc_trim(0)
