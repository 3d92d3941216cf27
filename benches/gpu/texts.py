"""Random texts of chosen lengths, the same for every engine's kind of work but never twice the same text.

An engine that keeps what it has computed has no advantage: texts part within their first words.
"""

import random

# Each is one token in the vocabularies of BERT and Qwen3.
WORDS = (
    "the a of to in on for with and or but time year people way day man thing woman life child world school "
    "state family student group country problem hand part place week company system program question work "
    "government number night point home water room mother area money story fact month lot right study book "
    "eye job word business issue side kind head house service friend father power hour game line end member "
    "law car city community name president team minute idea body information back parent face others level"
).split()
BANK = 1 << 15


class Source:
    """Texts from a seed. Long ones are cut from a bank, so that making them costs next to nothing."""

    def __init__(self, seed):
        self.random = random.Random(str(seed))
        self.bank = self.random.choices(WORDS, k=BANK)

    def text(self, low, high):
        """A text of so many words, at least and at most."""
        count = self.random.randint(low, high)
        first = min(count, 6)
        at = self.random.randrange(BANK - max(count - first, 1))
        return " ".join(self.random.choices(WORDS, k=first) + self.bank[at : at + count - first])

    def texts(self, count, words):
        return [self.text(*words) for _ in range(count)]
