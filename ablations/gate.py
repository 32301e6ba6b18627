"""Does the learned gate between mean fragment and guide earn its parameters?

Zero is the guide alone, one the mean fragment alone, mean halfway between them.
"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "zero": {"selfalign.gate": "zero"},
    "one": {"selfalign.gate": "one"},
    "mean": {"selfalign.gate": "mean"},
}
