"""The texts that every engine gets: seeded, of chosen lengths, new ones for every run.

No text comes twice, so that an engine that keeps what it has computed has no advantage. Run 0 warms up,
and its vectors are the ones that are compared.
"""

import dataclasses
import json
import pathlib
import random

# Each is one token in the vocabularies of BERT and Qwen3.
SHORT = (
    "the a of to in on for with and or but time year people way day man thing woman life child world school "
    "state family student group country problem hand part place week company system program question work "
    "government number night point home water room mother area money story fact month lot right study book "
    "eye job word business issue side kind head house service friend father power hour game line end member "
    "law car city community name president team minute idea body information back parent face others level"
).split()
# These are more than one token in one or both.
LONG = (
    "photosynthesis counterintuitively bioluminescent archaeologists uncharacteristic microfinance "
    "interoperability unacknowledged electromagnetism overgeneralisation"
).split()


@dataclasses.dataclass(frozen=True)
class Work:
    """What is measured on one model."""

    model: str
    passages: int
    batch: int
    clients: int
    # Fewest, most and likeliest words of a passage.
    words: tuple[int, int, int]
    # Words of a query, fewest and most, and queries of a run.
    query_words: tuple[int, int]
    queries: int
    # Words of the long document; 0 for none.
    document_words: int
    # No text has more tokens.
    longest: int


WORKS = {
    "minilm": Work("all-MiniLM-L6-v2", 1000, 32, 4, (52, 200, 100), (6, 14), 50, 0, 256),
    "qwen3": Work("synthetic-qwen3-embedding-0.6b", 64, 8, 2, (88, 120, 104), (15, 15), 10, 2047, 2048),
}


@dataclasses.dataclass(frozen=True)
class Texts:
    """The texts of one run."""

    passages: list[str]
    queries: list[str]
    documents: list[str]

    def checked(self) -> list[str]:
        """Those whose vectors are compared."""
        return [*self.passages, *self.queries[:4], *self.documents]


def passage(source: random.Random, count: int) -> str:
    """Sentences of 6 to 20 words, with commas and now and then a long word."""
    sentences: list[str] = []
    while count > 0:
        length = min(count, source.randrange(6, 21))
        words = [source.choice(LONG if source.random() < 0.02 else SHORT) for _ in range(length)]
        if length > 10:
            words[length // 2] += ","
        sentences.append(" ".join(words).capitalize() + ".")
        count -= length
    return " ".join(sentences)


def plain(source: random.Random, count: int) -> str:
    """A text of so many words that are one token each."""
    return " ".join(source.choices(SHORT, k=count))


def texts(work: Work, run: int) -> Texts:
    source = random.Random(f"{work.model} {run}")
    low, high, likeliest = work.words
    return Texts(
        [passage(source, round(source.triangular(low, high, likeliest))) for _ in range(work.passages)],
        [plain(source, source.randint(*work.query_words)) for _ in range(work.queries)],
        [plain(source, work.document_words)] if work.document_words else [],
    )


def batches(items: list[str], size: int) -> list[list[str]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def longest_tokens(model: pathlib.Path) -> int | None:
    """The limit that the model's own files set for sentence-transformers."""
    file = model / "sentence_bert_config.json"
    return json.loads(file.read_text())["max_seq_length"] if file.exists() else None
