"""Kills the driver, a worker, the raylet or the gcs of a run at random moments, again and again: is anything lost?

python -m tests.kill_campaign --kills 100        minutes; prints what was killed, and what was found otherwise

Every run is given again until it ends well; its records must then be those of a run that nobody disturbed, to the last
digit, and no process, lock or temporary file may be left of it.  Exit 1 where that is not so.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness import locks
from harness.schedule import guard
from tests.conftest import _write_data
from tests.processes import below, kill, until
from tests.schedule.conftest import PAIR, TRIAL, RayDoor, _door

MOST = 12  # tries of a run; what fails as often has another reason


def victims(driver: int) -> dict[str, list[int]]:
    """Kind -> processes of a driver that can be killed now."""
    lines = below(driver)
    return {
        "driver": [driver],
        "worker": [number for number, line in lines.items() if line.startswith(TRIAL)],
        "raylet": [number for number, line in lines.items() if b"/raylet/raylet" in line],
        "gcs": [number for number, line in lines.items() if b"gcs_server" in line.split(b"\0")[0]],
    }


def disturbed(door: RayDoor, rng: random.Random, killed: Counter[str], most: int, usual_s: float) -> bool:
    """One run, given again until it ends well, at most so many kills.  Returns whether it did.

    usual_s: seconds of a whole run here, within which a kill comes: any moment of it may be hit.
    """
    for _ in range(MOST):
        with door.start(*PAIR, "--workers", "2", "--no-dashboard") as driver:
            _strike(driver, rng, killed, most, usual_s)
            until(lambda driver=driver: driver.poll() is not None, "end of the driver")
            if driver.returncode == 0:
                return True
        until(lambda: not door.left(), "end of Ray's processes")
    return False


def _strike(driver: subprocess.Popen, rng: random.Random, killed: Counter[str], most: int, usual_s: float) -> None:
    """At most once, at a random moment."""
    if killed.total() >= most:
        return
    time.sleep(rng.uniform(0, usual_s))
    if driver.poll() is not None:
        return
    here = {kind: numbers for kind, numbers in victims(driver.pid).items() if numbers}
    kind = rng.choice(sorted(here))
    kill(rng.choice(here[kind]))
    killed[kind] += 1


def leftovers(door: RayDoor) -> list[str]:
    """Temporary and lock files in the results and folders of runtimes, a line each."""
    files = [path for path in door.results.rglob("*") if path.suffix == ".tmp" or path.name == locks.NAME]
    runtimes = [path for path in door.temporary.iterdir() if guard.members(str(path)) or path.exists()]
    return [str(path) for path in (*files, *runtimes)]


def campaign(kills: int, seed: int, say: Callable[[str], None]) -> bool:
    """Whether nothing was lost."""
    rng, killed, runs, wrong = random.Random(seed), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        data = _write_data(Path(folder) / "zoo")
        with _door(data, Path(folder) / "undisturbed") as door:
            door(*PAIR, "--workers", "0")
            expected = door.found()
        with _door(data, Path(folder) / "with-ray") as door:
            started = time.perf_counter()
            door(*PAIR, "--workers", "2", "--no-dashboard")
            usual_s = time.perf_counter() - started
            say(f"an undisturbed run takes {usual_s:.0f} s")
        while killed.total() < kills:
            runs += 1
            with _door(data, Path(folder) / f"run{runs}") as door:
                ended = disturbed(door, rng, killed, kills, usual_s)
                until(lambda door=door: not door.left(), "end of all processes", 60)
                until(lambda door=door: not list(door.temporary.iterdir()), "end of the runtimes' folders", 60)
                same, left = ended and door.found() == expected, leftovers(door)
            wrong += not same or bool(left)
            told = ", ".join(f"{kind} {count}" for kind, count in sorted(killed.items()))
            state = "as undisturbed" if same else "OTHER NUMBERS" if ended else "NEVER ENDED"
            say(f"run {runs}: {state}; left {left or 'nothing'}; killed so far: {told}")
    say(f"{killed.total()} kills in {runs} runs, {wrong} runs with other numbers or something left")
    return not wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    sys.exit(not campaign(asked.kills, asked.seed, lambda line: print(line, flush=True)))
