"""What was measured, and how it is shown."""

import array
import dataclasses
import math
import operator
import statistics

from .environment import Failed

HEAD = (
    "| model | engine | passages as given | sorted by length | one query, p50 | document | ready after "
    "| resident at most | worst cosine |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one engine."""

    given: float
    ordered: float | None
    query: float
    document: float | None
    ready: float
    memory: int
    cosine: float

    def cells(self) -> str:
        def rate(value: float | None) -> str:
            return "" if value is None else f"{value:,.0f} tokens/s"

        document = "" if self.document is None else f"{self.document:.2f} s"
        return (
            f"{rate(self.given)} | {rate(self.ordered)} | {self.query * 1e3:.1f} ms | {document} | "
            f"{self.ready:.2f} s | {self.memory:,} MB | {self.cosine:.6f}"
        )


@dataclasses.dataclass(frozen=True)
class Reference:
    """Vectors and lengths, by sentence-transformers in float32."""

    vectors: array.array
    passage_tokens: list[int]
    query_tokens: int
    document_tokens: int

    def worst(self, others: list[float] | array.array, count: int) -> float:
        """The least cosine of so many vectors with their own."""
        if len(others) != len(self.vectors):
            raise Failed(f"{len(others)} numbers instead of {len(self.vectors)}")
        width = len(others) // count

        def cosine(start: int) -> float:
            ours, theirs = (side[start : start + width] for side in (self.vectors, others))
            return sum(map(operator.mul, ours, theirs)) / math.hypot(*ours) / math.hypot(*theirs)

        return min(cosine(start) for start in range(0, len(others), width))

    def rate(self, seconds: list[float]) -> float:
        """Tokens a second: the median of the runs from the first on."""
        return statistics.median(tokens / took for tokens, took in zip(self.passage_tokens[1:], seconds, strict=True))
