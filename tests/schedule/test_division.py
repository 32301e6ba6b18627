"""A machine is divided among jobs so that all fit; what cannot fit, or cannot run at all, is refused in one line."""

from __future__ import annotations

import socket

import pytest

from harness.schedule import division
from harness.schedule.division import divided, wanted
from harness.spec.job import SpecError


@pytest.mark.parametrize(
    ("cpus", "jobs", "asked", "found"),
    [
        (2, 9, {}, (2, 1)),
        (2, 1, {}, (1, 2)),
        (8, 3, {}, (3, 2)),
        (8, 9, {"threads": 3}, (2, 3)),
        (8, 9, {"workers": 2}, (2, 4)),
        (8, 9, {"workers": 2, "threads": 3}, (2, 3)),
        (16, 9, {"gpus": 1, "gpus_per_job": 0.25}, (4, 4)),
        (16, 9, {"gpus": 3, "gpus_per_job": 0.1}, (9, 1)),
        (16, 99, {"gpus": 1, "gpus_per_job": 0.1}, (10, 1)),  # 1 / 0.1 is 10, whatever floats say
    ],
)
def test_cpus_are_shared_out(cpus, jobs, asked, found):
    workers, threads = divided(cpus, jobs, **asked)
    assert (workers, threads) == found
    assert workers * threads <= cpus


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"threads": 3}, "a job of 3 threads needs as many CPUs, there are 2"),
        ({"workers": 3}, "3 workers of 1 threads need more than the 2 CPUs and 0 GPUs there are"),
        ({"workers": 2, "threads": 2}, "2 workers of 2 threads need more than the 2 CPUs"),
        ({"gpus_per_job": 1.0}, "--gpus-per-job 1 cannot be had, there are 0 GPUs"),
        ({"gpus": 1.0, "gpus_per_job": 1.0, "workers": 2}, "2 workers of 1 threads and 1 GPUs need more than"),
    ],
)
def test_what_does_not_fit_is_refused(asked, says):
    with pytest.raises(SpecError, match=says):
        divided(2, 9, **asked)


def test_ray_schedules_several_jobs_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(division, "installed", lambda: True)
    assert wanted(None, 2, "")
    assert not wanted(None, 1, "")
    assert wanted(1, 1, "")
    assert not wanted(0, 9, "")
    with pytest.raises(SpecError, match="choose one"):
        wanted(0, 9, "auto")


def test_without_ray_jobs_run_in_turn_and_asking_for_it_is_refused(monkeypatch):
    monkeypatch.setattr(division, "installed", lambda: False)
    assert not wanted(None, 9, "")
    assert not wanted(0, 9, "")
    for workers, address in ((2, ""), (None, "auto")):
        with pytest.raises(SpecError, match="Ray is not installed: pip install"):
            wanted(workers, 9, address)


def test_a_port_that_is_taken_is_passed_over_and_none_is_refused(monkeypatch):
    cluster = pytest.importorskip("harness.schedule.cluster")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert cluster.free_port(port) > port
        monkeypatch.setattr(cluster, "PORTS", 1)
        with pytest.raises(SpecError, match=f"no free port for the dashboard from {port} to {port}"):
            cluster.free_port(port)
