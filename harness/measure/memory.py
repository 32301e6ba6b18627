"""How much memory a call needs at its peak, and how much there is to take."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from harness.allocator import give_back

T = TypeVar("T")

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
GROUP_LIMIT, GROUP_USE = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


def peak_of(call: Callable[[], T], device: str) -> tuple[T, float | None]:
    """The result and the peak in MiB while it was made: of CUDA's allocator, or of all this process had resident.

    None where the system cannot start the count anew (anything but Linux).
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        result = call()
        return result, torch.cuda.max_memory_allocated(device) / 2**20
    give_back()
    known = _reset()
    result = call()
    return result, _status_mib("VmHWM") if known else None


def available_bytes(device: str) -> int:
    """What may still be taken: of the GPU, or of the machine within the limit of the process's group.

    What torch keeps of a GPU for tensors to come is there to be taken.
    """
    if device.startswith("cuda"):
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    free = _kibibytes(Path("/proc/meminfo"), "MemAvailable")
    if free is None:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**10
    return int(min(free * 2**10, _group_bytes()))


def _group_bytes() -> float:
    """What the control group of this process has left; infinity where it has no limit."""
    try:
        return int(GROUP_LIMIT.read_text()) - int(GROUP_USE.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return float("inf")


def _reset() -> bool:
    """Starts the count of the peak anew; whether that worked."""
    try:
        RESET.write_text("5")
    except OSError:
        return False
    return _status_mib("VmHWM") is not None


def _status_mib(name: str) -> float | None:
    found = _kibibytes(STATUS, name)
    return None if found is None else found / 2**10


def _kibibytes(path: Path, name: str) -> float | None:
    """The value of `name:   123 kB` in a file of the kernel."""
    lines = path.read_text().splitlines() if path.exists() else []
    return next((float(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)
