"""Does it matter that the official code counts padded words as fragments in training?

The arm brings back its treatment there; ranked captions have no padding.
"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "official": {"selfalign.official_padding": True},
}
