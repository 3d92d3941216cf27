// Embedding lookup, as float32: grid = rows, block = 128.
// Must not know: what ids mean. Ids are within the table.
#include "common.cuh"

template <int N, typename T>
static __device__ void gather_row(const T* from, int width, int add, float* to) {
    for (int at = static_cast<int>(threadIdx.x) * N; at < width; at += static_cast<int>(blockDim.x) * N) {
        float values[N];
        load<N>(from + at, values);
        if (add != 0) {
            float old[N];
            load<N>(to + at, old);
#pragma unroll
            for (int i = 0; i < N; i++) {
                values[i] += old[i];
            }
        }
        store<N>(to + at, values);
    }
}

template <typename T>
static __device__ void gather(const T* table, const unsigned* ids, int rows, int width, int add, float* out) {
    const long long row = blockIdx.x;
    if (row >= rows) {
        return;
    }
    const T* from = table + static_cast<long long>(ids[row]) * width;
    if (width % 8 == 0) {
        gather_row<8>(from, width, add, out + row * width);
    } else {
        gather_row<1>(from, width, add, out + row * width);
    }
}

/// The rows to sum, and their weights.
template <typename T>
struct Corners {
    const T* rows[4];
    float weights[4];
};

template <int N, typename T>
static __device__ void add_corners(const Corners<T>& corners, int width, float* to) {
    for (int at = static_cast<int>(threadIdx.x) * N; at < width; at += static_cast<int>(blockDim.x) * N) {
        float sum[N] = {}, old[N];
#pragma unroll
        for (int corner = 0; corner < 4; corner++) {
            float values[N];
            load<N>(corners.rows[corner] + at, values);
#pragma unroll
            for (int i = 0; i < N; i++) {
                sum[i] += values[i] * corners.weights[corner];
            }
        }
        load<N>(to + at, old);
#pragma unroll
        for (int i = 0; i < N; i++) {
            sum[i] = old[i] + sum[i];
        }
        store<N>(to + at, sum);
    }
}

template <typename T>
static __device__ void gather_weighted(
    const T* table, const unsigned* ids, const float* weights, int rows, int width, float* out) {
    const long long row = blockIdx.x;
    if (row >= rows) {
        return;
    }
    Corners<T> corners;
#pragma unroll
    for (int corner = 0; corner < 4; corner++) {
        corners.rows[corner] = table + static_cast<long long>(ids[4 * row + corner]) * width;
        corners.weights[corner] = weights[4 * row + corner];
    }
    if (width % 4 == 0) {
        add_corners<4>(corners, width, out + row * width);
    } else {
        add_corners<1>(corners, width, out + row * width);
    }
}

#define FOR_TYPE(T, NAME)                                                                                            \
    extern "C" __global__ void __launch_bounds__(128)                                                                \
        gather_##NAME(const T* table, const unsigned* ids, int rows, int width, int add, float* out) {               \
        gather(table, ids, rows, width, add, out);                                                                   \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(128)                                                                \
        gather_weighted_##NAME(const T* table, const unsigned* ids, const float* weights, int rows, int width,       \
                               float* out) {                                                                         \
        gather_weighted(table, ids, weights, rows, width, out);                                                      \
    }

FOR_TYPE(float, f32)
FOR_TYPE(bf16, bf16)
FOR_TYPE(f16, f16)
#undef FOR_TYPE
