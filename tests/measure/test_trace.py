"""Traces: what is summed up from a profiler's events, which files lie where, and what reaches standard error."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from enum import Enum

import pytest
import torch
from torch.profiler import record_function

from harness.measure import trace as tracing
from harness.measure.trace import RECORDED, WARMUP, operators, trace


class Device(Enum):
    CPU = 0
    CUDA = 1


@dataclass
class Made:
    """An event; microseconds over both recorded steps."""

    key: str
    count: int
    self_cpu_time_total: float
    cpu_time_total: float = 0.0
    self_device_time_total: float = 0.0
    device_time_total: float = 0.0
    device_type: Device = Device.CPU


EVENTS = [
    Made("ProfilerStep*", 2, 99_000, 99_000),
    Made("train", 2, 2_000, 20_000, 0, 16_000),
    Made("train/backward", 2, 1_000, 12_000, 0, 10_000),
    Made("trainer", 2, 1_000, 1_000),  # an operator that only sounds like the stage
    Made("aten::mm", 8, 12_000, 12_000, 14_000, 14_000),
    Made("aten::add", 4, 4_000, 4_000, 2_000, 2_000),
    Made("sgemm", 8, 0, 0, 14_000, 14_000, Device.CUDA),
]


def test_operators_add_up_to_a_step():
    found = operators("train", EVENTS, 2, "cpu")
    assert found["step_ms"] == 10.0  # 20 ms of own time in two steps
    assert found["parts"] == {"backward": 6.0}
    assert found["outside_ms"] == 1.5
    assert [(o["name"], o["calls"], o["ms"], o["share"]) for o in found["top"]] == [
        ("aten::mm", 4.0, 6.0, 60.0),
        ("aten::add", 2.0, 2.0, 20.0),
        ("trainer", 1.0, 0.5, 5.0),
    ]


def test_on_a_gpu_it_is_the_time_of_the_gpu_counted_once():
    found = operators("train", EVENTS, 2, "cuda:0")
    assert found["step_ms"] == 8.0
    assert found["parts"] == {"backward": 5.0}
    assert [(o["name"], o["share"]) for o in found["top"]][0] == ("aten::mm", 87.5)


def test_only_the_top_is_kept_and_equals_go_by_name():
    events = [Made(f"op{n:02}", 1, 10) for n in reversed(range(20))]
    assert [o["name"] for o in operators("score", events, 1, "cpu")["top"]] == [f"op{n:02}" for n in range(tracing.TOP)]


def test_nothing_recorded_is_no_division_by_zero():
    found = operators("score", [Made("aten::mm", 1, 0)], 1, "cpu")
    assert (found["step_ms"], found["top"][0]["share"]) == (0, 0.0)


def test_a_trace_names_its_stage_and_its_parts_and_replaces_an_older_one(tmp_path):
    calls: list[int] = []

    def step() -> None:
        with record_function("score/product"):
            calls.append(int((torch.ones(3, 5) @ torch.ones(5, 7)).sum()))

    (tmp_path / "score.1.pt.trace.json").write_text("old")
    (tmp_path / "train.1.pt.trace.json").write_text("another stage")
    found = trace("score", step, tmp_path / ".", "cpu")
    assert calls == [105] * (WARMUP + RECORDED)
    (written,) = [path for path in tmp_path.glob("score.*.pt.trace.json") if path.stem != "score.1"]
    events = [event.get("name") for event in json.loads(written.read_text())["traceEvents"]]
    assert events.count("score") == events.count("score/product") == RECORDED
    assert "aten::mm" in events
    assert {path.name for path in tmp_path.iterdir()} == {written.name, "train.1.pt.trace.json"}
    assert {"aten::mm", "aten::sum"} <= {o["name"] for o in found["top"]}
    assert 0 < found["parts"]["product"] <= found["step_ms"]


def test_an_error_inside_a_step_is_the_one_that_is_seen(tmp_path):
    def step() -> None:
        raise ZeroDivisionError("in the model")

    with pytest.raises(ZeroDivisionError, match="in the model"):
        trace("score", step, tmp_path, "cpu")


def test_what_others_write_to_standard_error_passes_and_the_profiler_s_marks_do_not(tmp_path, capfd):
    trace("score", lambda: os.write(2, b"of a library\n"), tmp_path, "cpu")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "of a library\n" * (WARMUP + RECORDED) + "afterwards\n"
