"""How sharp should the words' choice of prototypes be?"""

BASES = ("vsepp+selfalign",)

ARMS = {
    "0.05": {"selfalign.word_temperature": 0.05},
    "0.2": {"selfalign.word_temperature": 0.2},
    "0.5": {"selfalign.word_temperature": 0.5},
    "1": {"selfalign.word_temperature": 1.0},
}
