"""Do prototypes that stay put in the first epochs help?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "1-epoch": {"selfalign.freeze_epochs": 1},
    "2-epochs": {"selfalign.freeze_epochs": 2},
    "4-epochs": {"selfalign.freeze_epochs": 4},
}
