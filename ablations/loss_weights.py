"""How much should the two losses weigh beside the hinge?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "concept-0.1": {"selfalign.concept_weight": 0.1},
    "concept-10": {"selfalign.concept_weight": 10.0},
    "context-0.1": {"selfalign.context_weight": 0.1},
    "context-10": {"selfalign.context_weight": 10.0},
    "both-0.1": {"selfalign.concept_weight": 0.1, "selfalign.context_weight": 0.1},
    "both-10": {"selfalign.concept_weight": 10.0, "selfalign.context_weight": 10.0},
}
