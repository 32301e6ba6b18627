"""How should SCAN make the cosines of a pair's words into one score?"""

BASES = ("scan:t2i-lse",)

ARMS = {
    "mean": {"model.aggregation": "mean"},
    "max": {"model.aggregation": "max"},
    "sum": {"model.aggregation": "sum"},
}
