"""Where a number comes from: code, versions and machine, without names of people, hosts or folders."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness import ROOT
from harness.spec.job import Settings

PACKAGES = ("torch", "transformers", "numpy", "pandas", "ray")


def provenance(settings: Settings) -> dict[str, Any]:
    return {
        **_commit(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": machine(settings),
        "kernels": kernels(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine(settings: Settings) -> dict[str, Any]:
    """What timings depend on: only rows with equal machines share a time column."""
    device, cuda = _gpu(settings.device) if settings.device.startswith("cuda") else (processor(), None)
    return {
        "device": device,
        "threads": settings.threads,
        "precision": settings.precision,
        "tf32": settings.tf32,
        "cuda": cuda,
    }


def _gpu(device: str) -> tuple[str, str | None]:
    """Its name, and the version of CUDA."""
    import torch  # takes seconds to import; what a CPU is called can be told without

    return torch.cuda.get_device_name(device), torch.version.cuda


def kernels() -> dict[str, Any]:
    """What rounding on a CPU depends on, for the same code and seed: which instructions torch uses, and whose products.

    instruction_set: torch's own word, such as AVX512 or DEFAULT; asked: what ATEN_CPU_CAPABILITY asks for, None where
    nobody asked; mkl, onednn: their versions, None where torch was built without; compiled: what compiled the passes
    over all pairs (`models.fused`), None where torch computes them.
    """
    import torch

    from models import fused

    built = torch.__config__.show()
    return {
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "asked": os.environ.get("ATEN_CPU_CAPABILITY"),
        "mkl": _found(r"Math Kernel Library Version (\S+?)-", built),
        "onednn": _found(r"(?:MKL-DNN|oneDNN) v(\S+)", built),
        "compiled": fused.compiler(),
    }


def _found(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1] if match else None


def processor() -> str:
    """The CPU's model name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def peak_memory_mib(device: str) -> float:
    """Largest resident size of this process so far, or of CUDA's allocator."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> dict[str, Any]:
    """Commit and whether tracked files differ from it; None outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}
