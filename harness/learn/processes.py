"""A group of processes on this machine that do one thing together; what goes wrong in one ends them all and is told."""

from __future__ import annotations

import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from harness.learn.parallel import ProcessLost, Together
from harness.progress import Progress, Watch

PATIENCE = timedelta(hours=1)  # for a process that computes while the others wait, as the first does at dev
LOOK_S = 0.1  # how often what they say is looked at
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")  # on which processes hear one another

Work = Callable[[Together, Watch], None]  # what each of them does, a picklable function


def run(work: Work, count: int, device: str, watch: Watch) -> None:
    """Does `work` in `count` new processes and waits for their end; the first one's progress is told to `watch`.

    Raises what one of them raised, and ProcessLost where one ended without a word.
    """
    backend = "nccl" if device.startswith("cuda") else "gloo"
    context = get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="harness-group-") as folder:
        said = context.SimpleQueue()
        asked = (count, backend, str(Path(folder) / "group"), pickle.dumps(work), said)
        group: Any = start_processes(_member, asked, count, join=False, start_method="spawn")
        errors: list[Exception] = []
        try:
            while not group.join(LOOK_S):
                _heard(said, watch, errors)
        except (ProcessExitedException, ProcessRaisedException) as ended:
            _heard(said, watch, errors)
            raise _reason(errors, ended) from None
        finally:
            for process in group.processes:  # whatever ends this one ends them
                process.kill()
                process.join()
        _heard(said, watch, errors)


def _reason(errors: list[Exception], ended: Exception) -> Exception:
    """Why the group ended: what somebody raised, rather than that others then waited for it in vain."""
    own = [error for error in errors if not isinstance(error, ProcessLost)]
    if own:
        return own[0]
    signal = getattr(ended, "signal_name", None)
    return ProcessLost(f"a process of the group was ended by {signal}") if signal else (errors or [ended])[0]


def _heard(said: Any, watch: Watch, errors: list[Exception]) -> None:
    while not said.empty():
        message = said.get()
        if isinstance(message, Progress):
            watch(message)
        else:
            errors.append(pickle.loads(message))


def _member(rank: int, count: int, backend: str, place: str, work: bytes, said: Any) -> None:
    """One process of the group."""
    _listen_to_this_machine()
    if backend == "nccl":
        torch.cuda.set_device(rank)
    try:
        dist.init_process_group(backend, init_method=f"file://{place}", rank=rank, world_size=count, timeout=PATIENCE)
        together = Together()
        pickle.loads(work)(together, said.put if together.first else _unheard)
        together.wait()
    except Exception as error:
        said.put(_packed(error))
        time.sleep(LOOK_S)  # the reason comes before the end of the connection, which the others notice
        raise
    finally:
        with suppress(RuntimeError, ValueError):  # a group that was never there, or is broken
            dist.destroy_process_group()


def _listen_to_this_machine() -> None:
    if sys.platform == "linux":
        for name in INTERFACES:
            os.environ.setdefault(name, "lo")


def _unheard(_: Progress) -> None:
    """The first process tells."""


def _packed(error: Exception) -> bytes:
    """An error for another process; one that cannot be carried as its words."""
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:
        packed = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return packed
