"""Do the losses of FMFA replace SelfAlign's levels on a host, or add to them?

SDM is A-SDM without its weight for hard queries; EFA stands where SelfAlign's concept level does.
"""

BASES = ("vsepp", "vsepp+selfalign")

ARMS = {
    "sdm": {"a-sdm": True, "a-sdm.adaptive": 0.0},
    "a-sdm": {"a-sdm": True},
    "a-sdm-detached": {"a-sdm": True, "a-sdm.through_weight": False},
    "a-sdm-no-hinge": {"a-sdm": True, "a-sdm.hinge": False},
    "efa": {"efa": True},
    "a-sdm-and-efa": {"a-sdm": True, "efa": True},
}
