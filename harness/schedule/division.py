"""How a machine is divided among the jobs that run at a time: workers, CPU threads and GPUs of each.  Pure; no ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from harness.spec.job import SpecError


@dataclass(frozen=True)
class Place:
    """Where jobs run, and how many at a time."""

    workers: int  # at a time
    threads: int  # CPU threads of each
    gpus: float = 0.0  # share of a GPU of each
    address: str = ""  # of a Ray cluster that runs already; "" = one is started here
    storage: str = ""  # URI that every node of the cluster reaches; "" = all see the results folder
    dashboard: bool = True
    port: int = 8265  # of the dashboard, or the next free one
    loggers: Mapping[str, str] = field(default_factory=dict)  # experiment loggers -> where they write
    holds_data: bool = False  # whether Ray's object store holds the sides of a split, or only what trials are told


def wanted(workers: int | None, jobs: int, address: str) -> bool:
    """Whether Ray schedules the jobs: where asked to, and by itself where it is installed and there are several.

    Raises SpecError where it is asked for and not installed.
    """
    asked = bool(workers) or bool(address)
    if workers == 0 and address:
        raise SpecError("--workers 0 runs in this process, --address on a cluster: choose one")
    if asked and not installed():
        raise SpecError("Ray is not installed: pip install 'selfalign-harness[ray]', or run with --workers 0")
    return asked or (workers is None and jobs > 1 and installed())


def installed() -> bool:
    return find_spec("ray") is not None


def divided(
    cpus: int, jobs: int, *, workers: int | None = None, threads: int = 0, gpus: float = 0.0, gpus_per_job: float = 0.0
) -> tuple[int, int]:
    """(workers, threads of each) for this many CPUs and GPUs; 0 threads = the CPUs shared out.

    Depends on all jobs, the recorded ones included, so that a run that goes on divides as before.  Raises SpecError
    where a job does not fit.
    """
    if threads > cpus:
        raise SpecError(f"a job of {threads} threads needs as many CPUs, there are {cpus}")
    if gpus_per_job > gpus:
        raise SpecError(f"--gpus-per-job {gpus_per_job:g} cannot be had, there are {gpus:g} GPUs")
    most = cpus // max(1, threads)
    if gpus_per_job:
        most = min(most, int(gpus / gpus_per_job + 1e-9))
    count = min(most, jobs) if workers is None else workers
    if count > most:
        per_job = f"{max(1, threads)} threads" + (f" and {gpus_per_job:g} GPUs" if gpus_per_job else "")
        raise SpecError(f"{count} workers of {per_job} need more than the {cpus} CPUs and {gpus:g} GPUs there are")
    return count, threads or max(1, cpus // count)
