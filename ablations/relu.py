"""Should guide and locals be cut off at zero?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "linear": {"selfalign.relu": False},
}
