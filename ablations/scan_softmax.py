"""How sharp should SCAN's attention to the regions be?"""

BASES = ("scan:t2i-lse",)

ARMS = {
    "1": {"model.lam": 1.0},
    "4": {"model.lam": 4.0},
    "20": {"model.lam": 20.0},
}
