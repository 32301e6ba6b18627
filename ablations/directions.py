"""Does the context loss need both directions?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "text-to-image": {"selfalign.directions": "text-to-image"},
    "image-to-text": {"selfalign.directions": "image-to-text"},
}
