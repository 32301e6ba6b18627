"""Compiling the passes once per machine: machine code is kept on disk, in the user's cache, by what it was made of.

numba looks at the file of a function alone when it decides whether kept code is still good; these functions call those
of other files.  So the folder is named by a hash of all files of this package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.core import config as _config

config: Any = _config
part = numba.njit(nogil=True)  # a function that passes call, compiled into them


@cache
def folder() -> Path:
    """Where machine code of these files is kept."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return platformdirs.user_cache_path("selfalign") / "compiled" / digest.hexdigest()[:16]


def kept(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a pass where it is first called, for the types it is called with; threads do not wait for it."""
    elsewhere = config.CACHE_DIR
    config.CACHE_DIR = str(folder())
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder can be written to
        return numba.njit(nogil=True)(function)
    finally:
        config.CACHE_DIR = elsewhere
