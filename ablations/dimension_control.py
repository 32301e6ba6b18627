"""Is SelfAlign worth more than the width and the parameters it brings?

The context level triples the embedding.  The arms are the host alone: as it is, mapped to the same final width, with
about the same number of trained parameters, and three times as wide in every layer.
"""

BASES = ("vsepp+selfalign", "vsrn+selfalign")

ARMS = {
    "host": {"selfalign": False},
    "host-final-width": {"selfalign": False, "control": "final-width"},
    "host-parameters": {"selfalign": False, "control": "parameters"},
    "host-width": {"selfalign": False, "control": "width"},
}
