"""The table of ratios, by hand."""

import pytest

from tests.perf.ratios import OTHER, OUTSIDE, kept, lines, ratios, spent


def bench(name: str, own: list[float], beside: dict[str, list[float]], size: str = "128 x 256") -> dict:
    return {"name": name, "stats": {"data": own}, "extra_info": {"beside": beside, "size": size}}


def test_ratios_are_of_medians_and_meet_their_goals():
    found = ratios(
        [
            bench("score[scan-t2i-lse-fast]", [2.0, 2.0, 9.0], {"score[matmul-bound]": [1.0, 1.9, 1.8]}),
            bench("score[scan-t2i-lse-reference]", [30.0], {"score[scan-t2i-lse-fast]": [2.0]}),
            bench("rank[fast, a]", [0.5], {"rank[argsort-loop]": [2.0], "rank[matmul-bound]": [0.1]}, "1000 x 5000"),
            bench("rank[fast, b]", [0.5], {"rank[argsort-loop]": [2.0], "rank[fast, more]": [1.0]}, "5000 x 25000"),
            {"name": "loss[hinge-all]", "stats": {"data": [1.0]}, "extra_info": {}},
        ]
    )
    assert list(found) == [
        ("rank[fast, a]", "times faster than rank[argsort-loop]", 4.0, 4),
        ("rank[fast, a]", "share of the product bound", 0.2, 0.8),
        ("rank[fast, b]", "times faster than rank[argsort-loop]", 4.0, 6),
        ("rank[fast, b]", "times faster than rank[fast, more]", 2.0, None),
        ("score[scan-t2i-lse-fast]", "share of the product bound", 0.9, 0.85),
        ("score[scan-t2i-lse-fast]", "times faster than the reference", 15.0, 15),
    ]


def test_one_table_holds_times_and_ratios_and_says_what_is_short_of_its_goal():
    door = {"name": "door[run --list]", "stats": {"data": [9.0]}, "extra_info": {"cpu_s": [0.4, 0.6, 0.7]}}
    score = bench("score[scan-t2i-lse-reference]", [0.03], {"score[scan-t2i-lse-fast]": [0.002]})
    assert lines([score, door]) == [
        ("door[run --list]", "s of CPU", "0.6", "<= 0.5", "short"),
        ("score[scan-t2i-lse-reference]", "ms", "30", "—", ""),
        ("score[scan-t2i-lse-fast]", "times faster than the reference", "15.00", ">= 15", ""),
    ]


def test_what_a_step_is_spent_on_adds_up_by_kind():
    top = [
        {"name": name, "share": share}
        for name, share in (("aten::bmm", 40.0), ("aten::addmm", 5.0), ("aten::sigmoid_", 20.0), ("aten::mul", 6.0))
    ]
    found = spent({"top": [*top, {"name": "aten::copy_", "share": 4.0}], "outside_ms": 1.0, "step_ms": 5.0})
    assert found == pytest.approx({"products": 45, "exponentials": 20, "copies": 4, OTHER: 11, OUTSIDE: 20})


def test_what_is_kept_is_the_table_with_its_machine():
    traced = {
        "name": "score[chan]",
        "stats": {"data": [9.0]},
        "extra_info": {"spent": {"products": 60.0}, "threads": 2},
    }
    step = {"name": "step[chan, scenes]", "stats": {"data": [0.002]}, "extra_info": {}}
    told = {"benchmarks": [traced, step], "datetime": "2026-01-02T03", "machine_info": {"cpu": {"brand_raw": "One"}}}
    found = kept(told)
    assert (found["machine"], found["date"], found["threads"]) == ("One", "2026-01-02", 2)
    assert [line["measure"] for line in found["lines"]] == ["step[chan, scenes]"]  # nothing under a profiler
    assert found["spent"] == {"score[chan]": {"products": 60.0}}
