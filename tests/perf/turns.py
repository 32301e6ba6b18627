"""Timing in turns: on a machine that others use, only what was timed beside each other can be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def in_turns(benchmark, call: Callable[[], object], beside: Mapping[str, Callable[[], object]], rounds: int) -> None:
    """Times `call`; before each round each of `beside` once, whose seconds go into `extra_info["beside"]`."""
    seconds: dict[str, list[float]] = {name: [] for name in beside}

    def others() -> None:
        for name, other in beside.items():
            start = time.perf_counter()
            other()
            seconds[name].append(time.perf_counter() - start)

    call()
    others()  # both warm
    for taken in seconds.values():
        taken.clear()
    benchmark.pedantic(call, setup=others, rounds=rounds)
    benchmark.extra_info["beside"] = seconds
