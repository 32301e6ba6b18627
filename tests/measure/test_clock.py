"""Seconds by the right clock, memory by the right count."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from harness.allocator import keep_freed_memory
from harness.measure import memory
from harness.measure.clock import laps, timed
from harness.measure.memory import available_bytes, peak_of


def test_a_processor_is_timed_by_the_wall_clock():
    result, seconds = timed(lambda: time.sleep(0.02) or 7, "cpu")
    assert result == 7
    assert 0.02 <= seconds < 2


def test_a_gpu_is_timed_by_events_around_the_call(monkeypatch):
    log: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            log.append(f"record on {stream}")

        def elapsed_time(self, _: Event) -> float:
            return 1500.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: log.append(f"wait for {device}"))
    assert timed(lambda: log.append("call"), "cuda:1") == (None, 1.5)
    record, wait = "record on stream of cuda:1", "wait for cuda:1"
    assert log == [wait, record, "call", record, wait]


def test_laps_hand_on_what_they_return_and_add_up_to_the_whole(monkeypatch):
    marks = iter([10.0, 10.5, 12.0, 15.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(marks))
    result, seconds = laps(2, [lambda x: x + 1, lambda x: 10 * x, str], "cpu")
    assert result == "30"
    assert seconds == [0.5, 1.5, 3.0]
    assert sum(seconds) == 15.0 - 10.0


@pytest.mark.skipif(not memory.RESET.exists(), reason="the peak can be counted anew on Linux only")
def test_the_peak_counts_what_is_given_back_and_forgets_what_was_before():
    mib = 64
    keep_freed_memory()  # as whatever has computed before in this process
    np.ones(mib * 2**18).sum()
    _, small = peak_of(lambda: None, "cpu")
    _, large = peak_of(lambda: np.ones(mib * 2**17).sum(), "cpu")
    result, after = peak_of(lambda: 7, "cpu")
    assert result == 7
    assert small is not None
    assert large is not None
    assert after is not None
    assert large - small > 0.9 * mib
    assert large - after > 0.9 * mib


def test_a_peak_that_cannot_be_told_is_absent(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "RESET", tmp_path / "none" / "clear_refs")
    assert peak_of(lambda: 7, "cpu") == (7, None)


def test_a_gpu_tells_the_peak_of_its_allocator(monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append(device))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (5, 7))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 40)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 10)
    assert peak_of(lambda: 7, "cuda:1") == (7, 3.0)
    assert calls == ["cuda:1"]
    assert available_bytes("cuda:1") == 5 + 40 - 10


def test_the_limit_of_a_control_group_counts(monkeypatch, tmp_path):
    for name, text in (("max", "1000\n"), ("current", "400\n"), ("none", "max\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "GROUP_USE", tmp_path / "current")
    monkeypatch.setattr(memory, "GROUP_LIMIT", tmp_path / "max")
    assert available_bytes("cpu") == 600
    monkeypatch.setattr(memory, "GROUP_LIMIT", tmp_path / "none")
    assert available_bytes("cpu") > 2**20
