"""How torch computes in this process: threads, number formats, determinism; settings decide, for all rows alike."""

from __future__ import annotations

import os

import torch
from torch.backends.cuda import enable_cudnn_sdp, enable_flash_sdp, enable_mem_efficient_sdp

from harness.allocator import keep_freed_memory
from harness.spec.job import Settings, SpecError


def prepare_torch(settings: Settings) -> None:
    """Applies the settings to this process.  Raises SpecError where the device is not there."""
    check_device(settings.device)
    keep_freed_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with a fixed workspace only
    torch.set_num_threads(settings.threads)
    torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    torch.backends.cudnn.allow_tf32 = settings.tf32
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(settings.deterministic, warn_only=True)
    if settings.device.startswith("cuda"):  # where only the plain attention kernel repeats itself
        for switch in (enable_flash_sdp, enable_mem_efficient_sdp, enable_cudnn_sdp):
            switch(not settings.deterministic)
    # a guard against reads that we do not make, at a cost in time
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]


def check_device(name: str) -> None:
    """Raises SpecError, one line, where `name` is no device of this machine."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SpecError(f"unknown device {name!r}; known: cpu, cuda, cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise SpecError(f"device {name!r} is not supported; known: cpu, cuda, cuda:N")
    if device.type == "cpu" and device.index is not None:
        raise SpecError(f"device {name!r} is not supported; known: cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SpecError(
            f"device {name!r} is not here: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices"
        )


def score_products(settings: Settings, family: str) -> torch.autocast:
    """The precision of the products within the score of an interactive method; sums are kept in float32."""
    enabled = settings.score_precision == "bf16" and family == "interactive"
    return torch.autocast(torch.device(settings.device).type, dtype=torch.bfloat16, enabled=enabled)


def autocast(settings: Settings) -> torch.autocast:
    """The precision of forward passes; parameters and optimiser stay in float32."""
    device = torch.device(settings.device).type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=settings.precision == "bf16")
