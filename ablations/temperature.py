"""How sharp should the context loss be?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "0.05": {"selfalign.temperature": 0.05},
    "0.1": {"selfalign.temperature": 0.1},
    "0.2": {"selfalign.temperature": 0.2},
    "0.4": {"selfalign.temperature": 0.4},
    "1": {"selfalign.temperature": 1.0},
}
