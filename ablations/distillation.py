"""How much of an interactive teacher does an independent student take over, and is it the teacher's knowledge?

The base is the student alone, for the same updates.  Teachers are stored rows of the same seed and folder: first
`--suite full --only scan:t2i-lse,chan`, then `--suite full --only ablations/distillation`.  Controls, without which a
gain means nothing: label smoothing of the same entropy; the teacher's scores off the diagonal in another order; two
students that teach each other.  The student's own shortlist put in order by the teacher is `--rerank`.
"""

BASES = ("vsepp", "vsrn")

ARMS = {
    "scan": {"distilled": True, "distilled.teacher": "scan:t2i-lse"},
    "chan": {"distilled": True, "distilled.teacher": "chan"},
    "joint": {"distilled": True},
    "smoothed": {"distilled": True, "distilled.teacher": "smoothed"},
    "shuffled": {"distilled": True, "distilled.teacher": "scan:t2i-lse", "distilled.shuffled": True},
    "peer": {"distilled": True, "distilled.teacher": "peer"},
    "scan-and-selfalign": {"distilled": True, "distilled.teacher": "scan:t2i-lse", "selfalign": True},
}
