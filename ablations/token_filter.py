"""How few regions are enough, and does it matter which?

Time to score a pair falls with the regions that are kept; random positions are the control of an importance.
"""

BASES = ("vsepp+token-filter", "scan:t2i-lse+token-filter")

ARMS = {
    "4": {"token-filter.keep": 4},
    "8": {"token-filter.keep": 8},
    "24": {"token-filter.keep": 24},
    "similarity": {"token-filter.importance": "similarity"},
    "random": {"token-filter.importance": "random"},
    "all": {"token-filter": False},
}
