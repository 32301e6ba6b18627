"""Which of SelfAlign's two levels helps its host, and do they add up?

The base is the host alone; an arm puts one level on it, or both.
"""

BASES = ("vsepp", "vse_infty", "vsrn", "camera")

ARMS = {
    "both": {"selfalign": True},
    "concept-only": {"selfalign": True, "selfalign.context": False},
    "context-only": {"selfalign": True, "selfalign.concept": False},
}
