"""By which loss, on which side and how sharply does a teacher teach best?

The base learns the distribution of each row and column (listwise) at half of the uniform entropy, beside the hinge.
"""

BASES = ("vsepp+distilled",)

ARMS = {
    "mse": {"distilled.mode": "mse"},
    "ordinal": {"distilled.mode": "ordinal"},
    "contrastive": {"distilled.mode": "contrastive"},
    "rows": {"distilled.sides": "rows"},
    "columns": {"distilled.sides": "columns"},
    "sharper": {"distilled.entropy": 0.25},
    "flatter": {"distilled.entropy": 0.75},
    "as-they-are": {"distilled.entropy": 0.0},
    "no-hinge": {"distilled.hinge": False},
}
