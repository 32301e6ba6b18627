"""How much a method computes: floating-point operations of its products and convolutions, by torch's own counter.

A multiplication and an addition are two operations; what is done element by element is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def flops(call: Callable[[], object]) -> int:
    """Operations of one call.  Not in inference mode, where the counter stumbles over weight-normalised maps."""
    with torch.inference_mode(False), torch.no_grad(), _taken_apart(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


@contextmanager
def _taken_apart() -> Iterator[None]:
    """Without fused recurrent and attention kernels: the counter sees no product inside them."""
    libraries = (torch.backends.cudnn, torch.backends.mkldnn)
    enabled, fast = [library.enabled for library in libraries], torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for library in libraries:
            library.enabled = False  # pyright: ignore[reportAttributeAccessIssue]
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for library, before in zip(libraries, enabled, strict=True):
            library.enabled = before  # pyright: ignore[reportAttributeAccessIssue]
