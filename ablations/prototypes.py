"""How many prototypes does the concept level need?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "64": {"selfalign.prototypes": 64},
    "128": {"selfalign.prototypes": 128},
    "256": {"selfalign.prototypes": 256},
    "512": {"selfalign.prototypes": 512},
    "2048": {"selfalign.prototypes": 2048},
}
