"""Should BFAN weigh the other fragments alike, or by the attention they get, when it drops what is irrelevant?"""

BASES = ("bfan:equal",)

ARMS = {
    "prob": {"model.focus": "prob"},
}
