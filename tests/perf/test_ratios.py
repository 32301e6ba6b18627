"""The table of ratios, by hand."""

from tests.perf.ratios import lines, ratios


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
