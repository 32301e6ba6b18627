"""The table of ratios, by hand."""

from tests.perf.ratios import ratios


def bench(name: str, own: list[float], beside: dict[str, list[float]]) -> dict:
    return {"name": name, "stats": {"data": own}, "extra_info": {"beside": beside}}


def test_ratios_are_of_medians_and_meet_their_goals():
    found = ratios(
        [
            bench("score[scan-t2i-lse-fast]", [2.0, 2.0, 9.0], {"score[matmul-bound]": [1.0, 1.9, 1.8]}),
            bench("score[scan-t2i-lse-reference]", [30.0], {"score[scan-t2i-lse-fast]": [2.0]}),
            bench("rank[fast]", [0.5], {"rank[argsort-loop]": [2.0], "rank[matmul-bound]": [0.1]}),
            {"name": "loss[hinge-all]", "stats": {"data": [1.0]}, "extra_info": {}},
        ]
    )
    assert list(found) == [
        ("rank[fast]", "times faster than rank[argsort-loop]", 4.0, 4),
        ("rank[fast]", "share of the product bound", 0.2, 0.8),
        ("score[scan-t2i-lse-fast]", "share of the product bound", 0.9, 0.85),
        ("score[scan-t2i-lse-fast]", "times faster than the reference", 15.0, 15),
    ]
