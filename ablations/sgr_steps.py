"""How many steps of graph reasoning does SGR need?"""

BASES = ("sgraf:sgr",)

ARMS = {
    "1": {"model.steps": 1},
    "2": {"model.steps": 2},
    "4": {"model.steps": 4},
}
