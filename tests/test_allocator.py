"""Freed memory stays with a process that computes, and what the user says of memory goes first."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from harness import ROOT, allocator

FAULTS = """
import resource
from harness.allocator import keep_freed_memory
print(int(keep_freed_memory()))
import torch
torch.ones(2**21)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    torch.ones(2**21)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""  # 8 MiB, 2,048 pages


def told(**environment: str) -> tuple[bool, int]:
    """Whether memory is kept, and how often pages were asked for."""
    own = {name: value for name, value in os.environ.items() if name not in allocator.SET_BY_USER}
    given = own | {"PYTHONPATH": str(ROOT)} | environment
    run = subprocess.run([sys.executable, "-c", FAULTS], env=given, capture_output=True, text=True, check=True)
    kept, faults = run.stdout.split()
    return kept == "1", int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_pages_are_asked_for_less_often():
    kept, faults = told()
    assert kept
    assert faults < told(MALLOC_MMAP_THRESHOLD_="131072")[1] / 2  # a system may take pages back all the same


@pytest.mark.parametrize("name", allocator.SET_BY_USER[:2])
def test_what_the_user_says_stays(name):
    assert told(**{name: "131072"})[0] is False


def test_another_c_library_is_left_alone(monkeypatch):
    for name in allocator.SET_BY_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda _: object())
    assert allocator.keep_freed_memory.__wrapped__() is False
