"""Does it matter that the official code counts padded words as fragments?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "official": {"selfalign.official_padding": True},
}
