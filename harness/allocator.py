"""Memory that was freed stays with the process: training and scoring ask for the same sizes again and again.

glibc gives every large block back to the system and gets it anew as pages that have to be cleared, which can take
longer than what is computed in them.  Larger blocks, such as matrices of scores, go back at once.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
SET_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")
LARGEST = 2**24  # bytes of a block that is kept: few of a step are larger, matrices of scores are
MOST = 2**29  # bytes that are kept in all, of those that lie at the end


@cache
def keep_freed_memory() -> bool:
    """Once a process; whether it is so: not where memory is another library's, or the user has said how."""
    if any(os.environ.get(name) for name in SET_BY_USER):
        return False
    mallopt = _of_glibc("mallopt")
    return mallopt is not None and mallopt(TRIM_THRESHOLD, MOST) == 1 and mallopt(MMAP_THRESHOLD, LARGEST) == 1


def give_back() -> None:
    """Freed memory goes back to the system now, so that what is measured next is not what was there before."""
    if (trim := _of_glibc("malloc_trim")) is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it is another one."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
