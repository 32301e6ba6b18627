"""Should a word learn from its nearest region alone, or from all regions by attention?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "attention": {"selfalign.teacher": "attention"},
}
