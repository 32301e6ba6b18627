"""Jobs under Ray: the same numbers as without it, a dashboard behind a token, nodes that come and go."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from harness import ROOT
from harness.record import Store

pytestmark = pytest.mark.slow
LISTENS = "0A"  # state of a socket in /proc/net/tcp


def found_alone(door, *arguments: str) -> dict:
    """The same jobs in one process, one after the other."""
    kept = door.results, door.store
    door.results = door.results.with_name("alone")
    door.store = Store(door.results / door.store.folder.name)
    door(*arguments, "--workers", "0")
    found = door.found()
    door.results, door.store = kept
    return found


def test_jobs_side_by_side_find_what_they_find_in_turn(ray_door):
    arguments = ("--only", "chance,vsepp,vsepp+selfalign,ablations/gate", "--epochs", "3")
    shown = ray_door(*arguments, "--workers", "2", "--no-dashboard")
    assert "workers    2 at a time, 1 CPU threads each" in shown
    assert "dashboard" not in shown
    assert shown.count("done    ") == 6
    assert "done    vsepp+selfalign zero seed 0: test Rsum" in shown
    assert ray_door.found() == found_alone(ray_door, *arguments)
    assert {record.provenance["machine"]["threads"] for record in ray_door.store.records()} == {1}
    curves = {
        path.parent.name: path.read_text().splitlines() for path in ray_door.store.folder.glob("trials/*/result.json")
    }
    record = ray_door.record("vsepp")
    epochs = [json.loads(line) for line in curves[record.key]]
    seen = [(e["epoch"], e["dev_rsum"], e["loss_hinge"]) for e in epochs if "epoch" in e]
    assert seen[:3] == [(e["epoch"], e["dev_rsum"], e["losses"]["hinge"]) for e in record.history]
    assert "cached  6 of 6" in ray_door(*arguments, "--workers", "2")


def test_bad_data_found_by_a_worker_are_refused_in_one_line_and_a_failed_job_is_tried_twice(ray_door):
    shown = ray_door(
        "--only", "vsepp", "--set", "settings.lr=1e38", "--set", "settings.clip=0.0", "--workers", "1", code=1
    )
    assert f"failed  vsepp seed 0: {ray_door.record('vsepp').error}" in shown
    (log,) = ray_door.store.folder.glob("trials/*/error.txt")
    assert log.read_text().count("JobFailed") >= 2
    rng = np.random.default_rng(0)
    features = rng.standard_normal((97, 3, 11)).astype(np.float32)
    features[50, 0, 0] = np.inf  # a large file is looked at in places first
    for name in ("boxes", "img_sizes", "counts"):
        (ray_door.data / f"train_{name}.npy").unlink()
    np.save(ray_door.data / "train_ims.npy", features)
    (ray_door.data / "train_caps.txt").write_text("an ant\n" * 97)
    shown = ray_door("--only", "vsepp", "--set", "data.train_images=0", "--workers", "1", code=2)
    assert "error: vsepp seed 0: 1 features are NaN or infinite in this batch, first in feature row 50" in shown


# Dashboard -----------------------------------------------------------------------------------------------------------


def answer(url: str, token: str = "") -> tuple[int, str]:
    """Status and text."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


def addresses(port: int) -> set[str]:
    """Where somebody listens on a port, as /proc has it: 0100007F is 127.0.0.1."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    local = [line[1].split(":") for line in lines if line[3] == LISTENS]
    return {address for address, hexed in local if int(hexed, 16) == port}


def test_the_dashboard_serves_the_jobs_to_who_has_the_token(ray_door):
    with ray_door.start("--only", "vsepp", "--epochs", "100000", "--workers", "1") as driver:
        try:
            line = next(line for line in driver.stdout if line.startswith(("dashboard", "error")))
            assert "asks for the token that `ray get-auth-token` prints" in line
            url = re.findall(r"http://127\.0\.0\.1:\d+", line)[0]
            ray_door.until(ray_door.under_way, "epoch")
            assert addresses(int(url.rpartition(":")[2])) == {"0100007F"}
            assert answer(url)[0] == 200  # the page itself, which then asks for the token
            for token in ("", "0" * 64):
                assert answer(f"{url}/api/jobs/", token)[0] in (401, 403)
            status, text = answer(f"{url}/api/jobs/", ray_door.token)
            (job,) = json.loads(text)
            assert (status, job["status"]) == (200, "RUNNING")
            assert "harness.run" in job["entrypoint"] or "harness/run.py" in job["entrypoint"]
            _, text = answer(f"{url}/api/v0/actors?detail=1", ray_door.token)
            (actor,) = [a for a in json.loads(text)["data"]["result"]["result"] if a["state"] == "ALIVE"]
            log = f"{url}/api/v0/logs/file?actor_id={actor['actor_id']}&suffix=out&lines=-1"
            assert answer(log)[0] in (401, 403)
            line = "vsepp seed 0: epoch 1/100000, dev Rsum"
            ray_door.until(lambda: line in answer(log, ray_door.token)[1], "line of the trial")
        finally:
            driver.send_signal(signal.SIGINT)
            driver.communicate(timeout=120)
    assert driver.returncode == 130


# A cluster -----------------------------------------------------------------------------------------------------------


@contextmanager
def node(door, *arguments: str) -> Iterator[subprocess.Popen]:
    """A Ray node of one CPU in processes of its own, gone in the end."""
    ray = Path(sys.executable).with_name("ray")
    common = ("--num-cpus=1", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000", "--block")
    environment = door.environment | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [str(ray), "start", *arguments, *common]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield process
    finally:
        for pid in [*door.below(process.pid), process.pid]:
            kill(pid)
        process.wait(timeout=30)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def nodes(door, address: str) -> int:
    """How many are alive."""
    code = (
        "import ray, sys; ray.init(address=sys.argv[1], logging_level='ERROR', log_to_driver=False);"
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    command = [sys.executable, "-c", code, address]
    done = subprocess.run(command, env=door.environment, capture_output=True, text=True, check=False)
    return int(done.stdout.split()[-1]) if done.returncode == 0 else 0


def test_two_nodes_share_the_jobs_and_one_may_be_killed(ray_door, tmp_path):
    arguments = ("--only", "vsepp,vsepp+selfalign", "--epochs", "150")
    port = free_port()
    address, far = f"127.0.0.1:{port}", tmp_path / "far"
    head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={ray_door.temporary}")
    with node(ray_door, *head):
        ray_door.until(lambda: nodes(ray_door, address) == 1, "head node")
        with node(ray_door, f"--address={address}") as second:
            ray_door.until(lambda: nodes(ray_door, address) == 2, "second node")
            with ray_door.start(*arguments, "--address", address, "--storage", far.as_uri()) as driver:
                ray_door.until(
                    lambda: len(list(far.glob("*/checkpoints/*/last.pt"))) == 2 or driver.poll() is not None,
                    "checkpoints of both jobs",
                )
                for pid in [*ray_door.below(second.pid), second.pid]:
                    kill(pid)
                shown, _ = driver.communicate(timeout=2 * ray_door.patience)
                assert driver.returncode == 0, shown
        assert "workers    2 at a time, 1 CPU threads each" in shown
        refused = ray_door(*arguments, "--address", address, "--threads", "5", "--force", code=2)
        assert "error: a job of 5 threads needs as many CPUs, there are 1" in refused
    assert ray_door.found() == found_alone(ray_door, *arguments)


def test_a_cluster_that_is_not_there_is_refused_in_one_line(ray_door):
    shown = ray_door("--only", "vsepp", "--address", f"127.0.0.1:{free_port()}", code=2)
    assert "error: Ray did not reach a cluster at 127.0.0.1:" in shown
