"""How many hard negatives does the context loss need, and must an item's own fragments be kept apart from them?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "none-kept-apart": {"selfalign.own_negatives": True},
    "64": {"selfalign.negatives": 64},
    "all": {"selfalign.negatives": 0},
}
