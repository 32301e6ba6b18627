"""Jobs under Ray find what they find without it, whatever is killed; a dashboard behind a token; nodes come and go.

All tests that start Ray are in this file: of two runtimes on one machine each disturbs the other.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.store import Store

pytestmark = pytest.mark.slow
LISTENS = "0A"  # state of a socket in /proc/net/tcp
GIB = 2**30


def found_alone(door, *arguments: str) -> dict:
    """The same jobs in one process, one after the other."""
    kept = door.results, door.store
    door.results = door.results.with_name("alone")
    door.store = Store(door.results / door.store.folder.name)
    door(*arguments, "--workers", "0")
    found = door.found()
    door.results, door.store = kept
    return found


def scalars(run: Path) -> dict[str, list[float]]:
    """What TensorBoard draws of a run, read by TensorBoard's own reader: name -> values in order."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(str(run))
    reader.Reload()
    return {name: [point.value for point in reader.Scalars(name)] for name in reader.Tags()["scalars"]}


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
        path.parent.name.rpartition("-")[2]: [json.loads(line) for line in path.read_text().splitlines()]
        for path in ray_door.store.folder.glob("trials/*/result.json")
    }
    record = ray_door.record("vsepp")
    seen = [(e["epoch"], e["dev_rsum"], e["loss_hinge"]) for e in curves[record.key] if "epoch" in e]
    assert seen[:3] == [(e["epoch"], e["dev_rsum"], e["losses"]["hinge"]) for e in record.history]
    assert len({report["pid"] for reports in curves.values() for report in reports}) <= 2  # workers are reused
    drawn = scalars(ray_door.store.folder / "trials" / f"vsepp-seed-0-{record.key}")
    assert drawn["ray/tune/dev_rsum"][:3] == pytest.approx([e["dev_rsum"] for e in record.history])
    assert drawn["ray/tune/loss_hinge"][:3] == pytest.approx([e["losses"]["hinge"] for e in record.history])
    assert ray_door(*arguments, "--workers", "2", "--dry-run").count("cached") == 6


def test_a_job_that_fails_is_tried_twice(ray_door):
    bad = ("--set", "settings.lr=1e38", "--set", "settings.clip=0.0")
    shown = ray_door("--only", "vsepp", *bad, "--workers", "1", "--no-dashboard", code=1)
    assert f"failed  vsepp seed 0: {ray_door.record('vsepp').error}" in shown
    (log,) = ray_door.store.folder.glob("trials/*/error.txt")
    assert log.read_text().count("JobFailed") >= 2


def test_bad_data_found_by_a_worker_are_refused_in_one_line(ray_door, tmp_path):
    ray_door.data = Path(shutil.copytree(ray_door.data, tmp_path / "bad"))
    features = np.random.default_rng(0).standard_normal((97, 3, 11))
    features[50, 0, 0] = 1e300  # beyond float32, which is found as it is read
    for name in ("boxes", "img_sizes", "counts"):
        (ray_door.data / f"train_{name}.npy").unlink()
    np.save(ray_door.data / "train_ims.npy", features)
    (ray_door.data / "train_caps.txt").write_text("an ant\n" * 97)
    everything = ("--only", "vsepp", "--set", "data.train_images=0")
    shown = ray_door(*everything, "--workers", "1", "--no-dashboard", code=2)
    assert "error: vsepp seed 0: " in shown
    assert "train_ims.npy: 1 features are beyond float32 in this batch, first in feature row 50" in shown


# Kills ---------------------------------------------------------------------------------------------------------------


def runtime(door, driver: int) -> list[int]:
    """The processes of a driver that are Ray, not its workers."""
    below = door.below(driver)
    return [pid for pid, line in below.items() if b"/raylet/raylet" in line or b"gcs_server" in line.split(b"\0")[0]]


def halfway(door, driver: subprocess.Popen, since: float = 0.0) -> list[str]:
    """Keys of jobs that this driver is in the midst of."""
    door.until(lambda: door.under_way(since) or driver.poll() is not None, "checkpoint")
    assert driver.poll() is None, driver.communicate()[0]
    return door.under_way(since)


def test_the_same_command_goes_on_after_the_driver_was_killed_and_then_the_runtime(ray_door, undisturbed):
    arguments = (*ray_door.pair, "--workers", "2", "--no-dashboard")
    with ray_door.start(*arguments) as driver:
        halfway(ray_door, driver)
        driver.kill()
        driver.communicate(timeout=60)
    assert len(ray_door.store.records()) < 2
    assert ray_door.under_way()  # there is something to go on from
    ray_door.until(lambda: not ray_door.left(), "end of Ray's processes")
    again = max(path.stat().st_mtime for path in ray_door.store.folder.glob("checkpoints/*/last.pt"))
    with ray_door.start(*arguments) as driver:
        halfway(ray_door, driver, again)
        ray_door.kill(*ray_door.until(lambda: runtime(ray_door, driver.pid), "raylet"))
        ray_door.until(lambda: driver.poll() is not None, "end of the driver")
        assert driver.returncode != 0
    assert len(ray_door.store.records()) < 2
    assert ray_door.under_way()
    ray_door.until(lambda: not ray_door.left(), "end of Ray's processes")
    shown = ray_door(*arguments)
    assert shown.count("done    vsepp") == 2 - shown.count("cached  1 of 2")
    assert ray_door.found() == undisturbed
    assert not list(ray_door.store.folder.glob("**/.*.tmp"))


def test_a_worker_that_dies_is_replaced_once_and_others_go_on(ray_door, undisturbed):
    """Of two jobs, one at a time, the first loses its worker twice and the second once."""
    with ray_door.start(*ray_door.pair, "--workers", "1", "--no-dashboard") as driver:
        (first,) = halfway(ray_door, driver)
        known: set[int] = set()
        for _ in range(2):
            (worker,) = ray_door.until(lambda: set(ray_door.workers(driver.pid)) - known, "worker")
            known.add(worker)
            ray_door.kill(worker)
        ray_door.until(lambda: set(ray_door.under_way()) - {first} or driver.poll() is not None, "second job")
        ray_door.kill(*ray_door.until(lambda: ray_door.workers(driver.pid), "worker"))
        shown = ray_door.end(driver, 1)
    failed, whole = ray_door.record("vsepp"), ray_door.record("vsepp+selfalign")
    assert (failed.key, failed.status) == (first, "failed")
    assert "died" in (failed.error or "")
    assert f"failed  vsepp seed 0: {failed.error}" in shown
    assert whole.status == "ok"
    assert ray_door.measured(whole) == undisturbed[whole.key]


def test_a_worker_that_takes_too_much_memory_is_killed_and_recorded_and_others_go_on(ray_door):
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_used_memory

    total, used = get_system_memory(), get_used_memory()
    prototypes, margin = 200_000_000, 4 * GIB  # of eight floats each
    if total - used < 4 * 8 * prototypes + GIB:
        pytest.skip(f"{(total - used) / GIB:.1f} GiB are free, too few to waste")
    too_much = ("--set", f"selfalign.prototypes={prototypes}", "--workers", "1", "--no-dashboard")
    limits = {"RAY_memory_usage_threshold": f"{(used + margin) / total:.4f}", "RAY_memory_monitor_refresh_ms": "50"}
    shown = ray_door("--only", "vsepp+selfalign,ablations/scan_softmax", "--epochs", "1", *too_much, code=1, **limits)
    records = {record.label: record.status for record in ray_door.store.records()}
    assert records == {"vsepp+selfalign": "failed", "scan:t2i-lse": "ok"}
    error = ray_door.record("vsepp+selfalign").error or ""
    assert error.startswith("OutOfMemory: ")
    assert f"failed  vsepp+selfalign seed 0: {error}" in shown
    assert shown.index("failed  vsepp") < shown.index("done    scan:t2i-lse seed 0")


# Dashboard -----------------------------------------------------------------------------------------------------------


def answer(url: str, token: str = "") -> tuple[int, str]:
    """Status and text."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(errors="replace")


def listed(door, url: str, what: str, **where: str) -> list[dict]:
    """Entries of the state API, of those with what is asked for."""
    filters = [
        pair
        for key, value in where.items()
        for pair in (("filter_keys", key), ("filter_predicates", "="), ("filter_values", value))
    ]
    query = urllib.parse.urlencode([("detail", "1"), *filters])
    status, text = answer(f"{url}/api/v0/{what}?{query}", door.token)
    assert status == 200, text
    return json.loads(text)["data"]["result"]["result"]


def addresses(port: int) -> set[str]:
    """Where somebody listens on a port, as /proc has it: 0100007F is 127.0.0.1."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    local = [line[1].split(":") for line in lines if line[3] == LISTENS]
    return {address for address, hexed in local if int(hexed, 16) == port}


def test_the_dashboard_serves_the_trials_to_who_has_the_token(ray_door):
    with ray_door.start("--only", "vsepp", "--epochs", "100000", "--workers", "1") as driver:
        line = next(line for line in driver.stdout if line.startswith(("dashboard", "error")))
        assert "asks for the token that `ray get-auth-token` prints" in line
        url = re.findall(r"http://127\.0\.0\.1:\d+", line)[0]
        halfway(ray_door, driver)
        assert addresses(int(url.rpartition(":")[2])) == {"0100007F"}
        assert answer(url)[0] == 200  # the page itself, which then asks for the token
        for path in ("jobs/", "v0/tasks", "v0/actors"):
            for token in ("", "0" * 64):
                assert answer(f"{url}/api/{path}", token)[0] in (401, 403)
        (job,) = json.loads(answer(f"{url}/api/jobs/", ray_door.token)[1])
        assert job["status"] == "RUNNING"
        assert "harness.run" in job["entrypoint"] or "harness/run.py" in job["entrypoint"]
        (actor,) = listed(ray_door, url, "actors", state="ALIVE")
        (task,) = ray_door.until(lambda: listed(ray_door, url, "tasks", name="vsepp seed 0"), "task named as the trial")
        assert task["actor_id"] == actor["actor_id"]
        log = f"{url}/api/v0/logs/file?actor_id={actor['actor_id']}&suffix=out&lines=-1"
        assert answer(log)[0] in (401, 403)
        line = "vsepp seed 0: epoch 1/100000, dev Rsum"
        ray_door.until(lambda: line in answer(log, ray_door.token)[1], "line of the trial")
        driver.send_signal(signal.SIGINT)
        ray_door.end(driver, 130)


def colours(path: Path) -> int:
    """Of a picture: a blank page has one."""
    with Image.open(path) as picture:
        return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))


def test_the_dashboard_shows_the_trials_by_name_to_eyes(ray_door, tmp_path, browser):
    """Chromium is asked for the token, then lists the job and, in its table of tasks, a line named as each trial."""
    rows = ("vsepp", "vsepp+selfalign")
    arguments = ("--only", ",".join(rows), "--epochs", "100000", "--workers", "2")
    with ray_door.start(*arguments) as driver:
        line = next(line for line in driver.stdout if line.startswith(("dashboard", "error")))
        url = re.findall(r"http://127\.0\.0\.1:\d+", line)[0]
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(1000 * ray_door.patience)
        page.goto(f"{url}/#/jobs")
        page.get_by_label("Authentication Token", exact=True).fill(ray_door.token)
        assert page.get_by_text("RUNNING").count() == 0  # nothing is told before
        page.get_by_role("button", name="Submit").click()
        page.get_by_text("RUNNING").first.wait_for()
        page.screenshot(path=tmp_path / "jobs.png")
        assert "harness.run" in page.inner_text("body")
        (job,) = json.loads(answer(f"{url}/api/jobs/", ray_door.token)[1])
        page.goto(f"{url}/#/jobs/{job['job_id']}")
        page.get_by_text("Task Table").click()
        page.get_by_label("Name", exact=True).first.fill("seed 0")
        for row in rows:
            page.get_by_role("cell", name=f"{row} seed 0", exact=True).wait_for()
        page.get_by_role("cell", name="vsepp seed 0", exact=True).scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / "tasks.png")
        assert min(colours(tmp_path / name) for name in ("jobs.png", "tasks.png")) > 20
        driver.send_signal(signal.SIGINT)
        ray_door.end(driver, 130)


# A cluster -----------------------------------------------------------------------------------------------------------


@contextmanager
def node(door, *arguments: str):
    """A Ray node of one CPU in processes of its own."""
    ray = str(Path(sys.executable).with_name("ray"))
    agents = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")
    ports = [f"--{agent}-port={free_port()}" for agent in agents]
    common = ("--num-cpus=1", "--node-ip-address=127.0.0.1", "--object-store-memory=100000000", "--block", *ports)
    with door.process(ray, "start", *arguments, *common, shown=subprocess.DEVNULL) as process:
        yield process


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for_nodes(door, address: str, count: int) -> None:
    code = """if True:
        import ray, sys, time
        while not ray.is_initialized():
            try:
                ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
            except (ConnectionError, RuntimeError):
                time.sleep(0.2)
        while sum(node["Alive"] for node in ray.nodes()) != int(sys.argv[2]):
            time.sleep(0.1)
    """
    with door.process(sys.executable, "-c", code, address, str(count)) as process:
        door.end(process)


def test_two_nodes_share_the_jobs_and_one_may_be_killed(ray_door, undisturbed, tmp_path):
    port = free_port()
    address, far = f"127.0.0.1:{port}", tmp_path / "far"
    head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={ray_door.temporary}")
    with node(ray_door, *head):
        ray_door.until(lambda: listening(port), "head node")
        with node(ray_door, f"--address={address}") as second:
            wait_for_nodes(ray_door, address, 2)
            with ray_door.start(*ray_door.pair, "--address", address, "--storage", far.as_uri()) as driver:
                ray_door.until(
                    lambda: len(list(far.glob("*/checkpoints/*/last.pt"))) == 2 or driver.poll() is not None,
                    "checkpoints of both jobs",
                )
                ray_door.kill(*ray_door.below(second.pid), second.pid)
                shown = ray_door.end(driver)
        assert "workers    2 at a time, 1 CPU threads each" in shown
        wait_for_nodes(ray_door, address, 1)
        refused = ray_door(*ray_door.pair, "--address", address, "--threads", "5", "--force", code=2)
        assert "error: a job of 5 threads needs as many CPUs, there are 1" in refused
    assert ray_door.found() == undisturbed


def test_a_cluster_that_is_not_there_is_refused_in_one_line(ray_door):
    shown = ray_door("--only", "vsepp", "--address", f"127.0.0.1:{free_port()}", code=2)
    assert "error: Ray did not reach a cluster at 127.0.0.1:" in shown
