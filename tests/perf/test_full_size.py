"""SCAN on 1,000 images and 5,000 captions at d = 1024, two threads: under a minute, in less than 2 GiB, exactly."""

import json
import os
import subprocess
import sys

from harness import ROOT
from tests.perf.turns import DEVICE

IMAGES, FEWER = 1000, 60  # FEWER where nothing is timed
MOST_MIB = 2048


def test_evaluating_scan(benchmark, request):
    images = FEWER if request.config.getoption("benchmark_disable") else IMAGES
    command = [sys.executable, "-m", "tests.perf.full_size", str(images), DEVICE]

    def run() -> dict:
        return json.loads(
            subprocess.run(command, check=True, capture_output=True, cwd=ROOT, env=dict(os.environ)).stdout
        )

    benchmark.name = "evaluate[scan-t2i-lse, 1,000 x 5,000]"
    found = benchmark.pedantic(run, rounds=1)
    benchmark.extra_info["found"] = found
    print(f"{found['seconds']:.1f} s, peak {found['peak_mib']:.0f} MiB")
    assert found["t2i"] == found["t2i_reference"]
    assert found["i2t"] == found["i2t_reference"]
    assert found["peak_mib"] is None or found["peak_mib"] < MOST_MIB
