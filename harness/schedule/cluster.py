"""A Ray runtime: started here and stopped in the end, or one that runs already; what it has, and who may reach it."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import patch

QUIET = {  # set before ray is imported; what the user has set stays
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # Ray's own 15 would let a job starve beside anything else
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is answered by the door
    "TUNE_MAX_PENDING_TRIALS_PG": "16",
    "RAY_AIR_NEW_OUTPUT": "0",  # the new one prints tables whatever it is told
}
TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
TOKEN = Path.home() / ".ray" / "auth_token"
for name, value in QUIET.items():
    os.environ.setdefault(name, value)
if any(os.environ.get(name) for name in TOKENS) or TOKEN.exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray asks for it where it starts, not where it joins

import ray  # noqa: E402
import ray.exceptions  # noqa: E402
from ray._private import ray_constants  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from harness.data.split import DataError  # noqa: E402
from harness.schedule import session  # noqa: E402
from harness.schedule.division import Place, divided  # noqa: E402
from harness.schedule.worker import Work, check_code, check_data, receive_plugins  # noqa: E402
from harness.spec.job import SpecError  # noqa: E402

LOCAL = "127.0.0.1"
STORE_BYTES = (
    256 * 2**20
)  # Ray's object store where it holds no data, only what trials are told; else Ray's own default
PORTS = 50  # tried for the dashboard
STARTS = 3  # tries: a node gives up where its agents take more than 15 s, as on a machine with much else to do


@contextmanager
def cluster(place: Place, say: Callable[[str], None]) -> Iterator[None]:
    """A Ray runtime: one started here and stopped in the end, or one that runs already.  Raises SpecError."""
    _check_address(place.address)
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # a trial that failed has a line of ours
    if place.address:
        with _runtime(place, {"address": place.address}, say):
            yield
        return
    session.keep_token_private(TOKEN)
    # Ray asks this constant, and its processes the environment, whether other machines are to reach it
    with (
        session.own() as folder,
        patch.object(ray_constants, "ENABLE_RAY_CLUSTER", False),
        _runtime(place, _own_options(place, folder), say),
    ):
        yield


def _own_options(place: Place, folder: Path) -> dict[str, Any]:
    """Of a runtime that nobody else's address captures, and that nobody else reaches.  Raises SpecError."""
    options = {
        "address": "local",
        "num_cpus": place.workers * place.threads,
        "include_dashboard": _shown(place),
        "object_store_memory": None if place.holds_data else STORE_BYTES,
        "_temp_dir": str(folder),
    }
    return options | ({"dashboard_host": LOCAL, "dashboard_port": free_port(place.port)} if _shown(place) else {})


def _shown(place: Place) -> bool:
    return place.dashboard and has_dashboard()


@contextmanager
def _runtime(place: Place, options: dict[str, Any], say: Callable[[str], None]) -> Iterator[None]:
    """Started or joined, and left in the end.  Raises SpecError."""
    options = {"logging_level": logging.ERROR, "log_to_driver": False} | options
    try:
        context = _begun(options, 1 if place.address else STARTS)
    except Exception as error:
        where = f"reach a cluster at {place.address}" if place.address else "start"
        said = " ".join(f"{error} {error.__cause__ or ''}".split())
        raise SpecError(f"Ray did not {where}: {said[:300]}") from None
    try:
        if _shown(place) and context.dashboard_url:
            say(f"dashboard  http://{context.dashboard_url}  {login()}")
        yield
    finally:
        ray.shutdown()


def _begun(options: dict[str, Any], tries: int) -> Any:
    """The context of a runtime that was started or joined.  Raises whatever the last try did."""
    try:
        return ray.init(**options)
    except Exception:
        ray.shutdown()
        if tries == 1:
            raise
    return _begun(options, tries - 1)


def _check_address(address: str) -> None:
    """Whether anybody listens there: Ray itself would wait for minutes.  Raises SpecError."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # `auto`, or a form that Ray knows better
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise SpecError(f"Ray did not reach a cluster at {address}: {error.strerror or error}") from None


def has_dashboard() -> bool:
    """Whether `ray[default]` is there, and not `ray` alone."""
    return all(find_spec(module) for module in ("aiohttp", "aiohttp_cors"))


def login() -> str:
    """How to log in, in words."""
    if os.environ.get("RAY_AUTH_MODE", "token").lower() == "token":
        return "(asks for the token that `ray get-auth-token` prints)"
    return "(open to every user of this machine: RAY_AUTH_MODE is not `token`)"


def free_port(first: int) -> int:
    """The first free one of some.  Raises SpecError."""
    last = min(first + PORTS, 2**16) - 1
    for port in range(first, last + 1):
        with socket.socket() as probe:
            try:
                probe.bind((LOCAL, port))
            except OSError:
                continue
            return port
    raise SpecError(f"no free port for the dashboard from {first} to {last}: --dashboard-port, or --no-dashboard")


def resources() -> tuple[int, float, int]:
    """CPUs and GPUs of the cluster, and the most CPUs of one node."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    return sum(cpus), sum(node.get("GPU", 0.0) for node in nodes), max(cpus, default=0)


def check_nodes(work: Work) -> None:
    """Every node must have the driver's code and data, and see the results.  Raises SpecError naming the node."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    elsewhere = [node for node in nodes if node["NodeManagerHostname"] != socket.gethostname()]
    if elsewhere and work.shared is None:
        raise SpecError(
            f"{len(elsewhere)} of {len(nodes)} nodes are other machines: --storage must name a place all reach"
        )

    @ray.remote(num_cpus=0)
    def problem() -> str:
        try:
            check_code(work.code)
            receive_plugins(work)
            check_data(work.jobs[0].data)
        except (SpecError, DataError, OSError) as error:
            return str(error)
        return ""

    asked = {
        node["NodeID"]: problem.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes
    }
    for node in nodes:
        try:
            found = ray.get(asked[node["NodeID"]])
        except ray.exceptions.RayError as error:  # it has no such code at all, or is gone
            found = one_line(error)
        if found:
            raise SpecError(f"node {node['NodeManagerAddress']}: {found}")


def on_cluster(place: Place, jobs: int) -> Place:
    """The place divided by what the running cluster has; a thread a job unless more are asked for.

    Raises SpecError where a job does not fit.
    """
    cpus, gpus, largest = resources()
    workers, threads = place.workers or None, place.threads or 1
    count, each = divided(cpus, jobs, workers=workers, threads=threads, gpus=gpus, gpus_per_job=place.gpus)
    if each > largest:
        raise SpecError(f"a job of {each} threads needs as many CPUs, no node has more than {largest}")
    return replace(place, workers=count, threads=each)


def one_line(error: object) -> str:
    """What it was, without Ray's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(getattr(error, "cause", None) or error).__name__ if isinstance(error, Exception) else ""
    said = lines[-1] if lines and lines[0].startswith("\x1b[36mray::") else " ".join(lines[:2])
    return ": ".join(filter(None, (kind, said)))[:300]
