"""Rates of PyTorch's matrix products: `products.py THREADS`. Runs in the peers' environment.

Shapes, and weights that are used by turns so that they come from memory, are those of
`cargo bench -p proxima-kernels`. Prints one line of figures a shape, dtype and way.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

ROWS = (1, 16, 128, 512, 2048)
SHAPES = ((3072, 1024), (1536, 384), (1024, 3072))
# Bytes of weights used by turns for few rows: more than any cache holds.
WEIGHT_BYTES = 256 * 1024 * 1024
# Weights used by turns for many rows, where products take the time.
WARM_WEIGHTS = 2
RUNS = 5


def rate(product: Callable[[Tensor, Tensor], Tensor], x: Tensor, weights: list[Tensor], work: int) -> float:
    """GFLOP/s, the median of runs."""
    times = []
    for _ in range(RUNS + 1):
        begun = time.perf_counter()
        for weight in weights:
            product(x, weight)
        times.append((time.perf_counter() - begun) / len(weights))
    return work / statistics.median(times[1:]) / 1e9


def prepacked(x: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")


def rates(rows: int, columns: int, depth: int, dtype: torch.dtype) -> tuple[float, float | None]:
    """Plain and prepacked; none where PyTorch refuses to pack."""
    x = torch.randn(rows, depth, dtype=dtype)
    count = WEIGHT_BYTES // (columns * depth * dtype.itemsize) + 1 if rows <= 16 else WARM_WEIGHTS
    weights = [torch.randn(columns, depth, dtype=dtype) for _ in range(count)]
    work = 2 * rows * columns * depth
    plain = rate(torch.nn.functional.linear, x, weights, work)
    try:
        packed = [torch.ops.mkldnn._reorder_linear_weight(weight, rows) for weight in weights]
        return plain, rate(prepacked, x, packed, work)
    except (AttributeError, NotImplementedError, RuntimeError):
        return plain, None


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    with torch.inference_mode():
        for columns, depth in SHAPES:
            for rows in ROWS:
                for dtype in (torch.float32, torch.bfloat16):
                    plain, packed = rates(rows, columns, depth, dtype)
                    shown = "refused" if packed is None else f"{packed:.1f}"
                    print(rows, columns, depth, str(dtype).split(".")[1], f"{plain:.1f}", shown, flush=True)


if __name__ == "__main__":
    main()
