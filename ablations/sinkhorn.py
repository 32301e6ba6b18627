"""How evenly, and how softly, must regions spread over the prototypes?

No iteration is each region's own softmax, without regard to how many others share its prototype.
"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "0-iterations": {"selfalign.sinkhorn_iterations": 0},
    "1-iteration": {"selfalign.sinkhorn_iterations": 1},
    "3-iterations": {"selfalign.sinkhorn_iterations": 3},
    "10-iterations": {"selfalign.sinkhorn_iterations": 10},
    "eps-0.02": {"selfalign.eps": 0.02},
    "eps-0.1": {"selfalign.eps": 0.1},
    "eps-0.5": {"selfalign.eps": 0.5},
}
