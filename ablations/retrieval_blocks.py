"""Do the context blocks help in retrieval, or is it enough to train with them?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "training-only": {"selfalign.retrieval_blocks": False},
}
