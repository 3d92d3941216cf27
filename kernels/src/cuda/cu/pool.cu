// Pooling: from a sequence's rows to one vector. Sums are in row order.
// Must not know: what a sequence is, which method a model wants.
#include "common.cuh"

/// Values of `method` in `pool_f32`.
enum Method { CLS = 0, MEAN = 1, LAST = 2, MAX = 3, WEIGHTED_MEAN = 4, MEAN_SQRT_LENGTH = 5 };

/// The largest element of a column. NaN propagates, so the finite check catches it.
static __device__ float largest(const float* column, int rows, int width) {
    float found = column[0];
#pragma unroll 8
    for (long long row = 1; row < rows; row++) {
        const float number = column[row * width];
        found = found > number || found != found ? found : number;
    }
    return found;
}

static __device__ float sum_of(const float* column, int rows, int width, bool weighted) {
    float sum = 0.0f;
#pragma unroll 8
    for (long long row = 0; row < rows; row++) {
        const float number = column[row * width];
        sum += weighted ? static_cast<float>(row + 1) * number : number;
    }
    return sum;
}

/// grid = (ceil(width/128), sequences), block = 128. Columns from `dimensions` on are unchanged.
extern "C" __global__ void __launch_bounds__(128)
    pool_f32(const float* rows, const unsigned* bounds, int width, int method, int dimensions, float* out) {
    const int at = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (at >= width || at >= dimensions) {
        return;
    }
    const long long sequence = blockIdx.y, first = bounds[2 * sequence];
    const int count = static_cast<int>(bounds[2 * sequence + 1] - bounds[2 * sequence]);
    const float* column = rows + first * width + at;
    float pooled;
    if (method == CLS) {
        pooled = column[0];
    } else if (method == LAST) {
        pooled = column[static_cast<long long>(count - 1) * width];
    } else if (method == MAX) {
        pooled = largest(column, count, width);
    } else {
        const float n = static_cast<float>(count);
        const float ranks = static_cast<float>(static_cast<long long>(count) * (count + 1) / 2);
        const float divisor = method == WEIGHTED_MEAN ? ranks : method == MEAN_SQRT_LENGTH ? sqrtf(n) : n;
        pooled = sum_of(column, count, width, method == WEIGHTED_MEAN) / divisor;
    }
    out[sequence * width + at] = pooled;
}
