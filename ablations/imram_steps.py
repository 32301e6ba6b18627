"""How many steps of recurrent attention does IMRAM need?"""

BASES = ("imram:text",)

ARMS = {
    "1": {"model.steps": 1},
    "2": {"model.steps": 2},
    "4": {"model.steps": 4},
}
