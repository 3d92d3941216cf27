// Rotary positions of queries and keys in place, with the norms of their heads before, a warp each (row, head):
// grid = ceil(rows*(heads+kv_heads)/4), block = 128. Heads have an even size, at most 256; values stay.
// Must not know: what positions mean, where tables come from.
#include "common.cuh"

/// How a row is made up: `heads` queries, `kv_heads` keys, as many values, `size` numbers each.
struct Heads {
    int heads;
    int kv_heads;
    int size;
};

/// Weights of the norms of heads; none if null.
struct HeadNorms {
    const float* query;
    const float* key;
    float eps;
};

/// One head: the left half in `left`, the right half in `right`, N numbers a lane and step.
template <int N, typename T>
static __device__ void turn(T* head, int half, const float* weight, float eps, const float* cos, const float* sin) {
    /// Numbers of half a head that a lane holds, at most.
    constexpr int STEPS = 256 / 2 / WARP / N;
    float left[STEPS][N], right[STEPS][N];
    float sum = 0.0f;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int at = (step * WARP + lane_of_warp()) * N;
        if (at < half) {
            load<N>(head + at, left[step]);
            load<N>(head + half + at, right[step]);
#pragma unroll
            for (int i = 0; i < N; i++) {
                sum += left[step][i] * left[step][i] + right[step][i] * right[step][i];
            }
        }
    }
    const float scale = weight == nullptr ? 1.0f : 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(2 * half) + eps);
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int at = (step * WARP + lane_of_warp()) * N;
        if (at < half) {
#pragma unroll
            for (int i = 0; i < N; i++) {
                float l = left[step][i], r = right[step][i];
                if (weight != nullptr) {
                    l = l * scale * weight[at + i];
                    r = r * scale * weight[half + at + i];
                }
                const float c = cos[at + i], s = sin[at + i];
                left[step][i] = l * c - r * s;
                right[step][i] = r * c + l * s;
            }
            store<N>(head + at, left[step]);
            store<N>(head + half + at, right[step]);
        }
    }
}

template <typename T>
static __device__ void rotary(
    T* qkv, int rows, Heads shape, HeadNorms norms, const unsigned* positions, const float* cos, const float* sin) {
    const int turned = shape.heads + shape.kv_heads;
    const long long warp = warp_of_grid(), row = warp / turned;
    if (row >= rows) {
        return;
    }
    const int head = static_cast<int>(warp % turned), half = shape.size / 2;
    T* numbers = qkv + (row * (turned + shape.kv_heads) + head) * shape.size;
    const float* weight = head < shape.heads ? norms.query : norms.key;
    const long long table = static_cast<long long>(positions[row]) * half;
    if (half % 2 == 0) {
        turn<2>(numbers, half, weight, norms.eps, cos + table, sin + table);
    } else {
        turn<1>(numbers, half, weight, norms.eps, cos + table, sin + table);
    }
}

#define FOR_TYPE(T, NAME)                                                                                            \
    extern "C" __global__ void __launch_bounds__(128)                                                                \
        rotary_##NAME(T* qkv, int rows, int heads, int kv_heads, int size, const float* query_norm,                  \
                      const float* key_norm, float eps, const unsigned* positions, const float* cos,                 \
                      const float* sin) {                                                                            \
        const HeadNorms norms = {query_norm, key_norm, eps};                                                         \
        rotary(qkv, rows, Heads{heads, kv_heads, size}, norms, positions, cos, sin);                                 \
    }

FOR_TYPE(float, f32)
FOR_TYPE(bf16, bf16)
FOR_TYPE(f16, f16)
#undef FOR_TYPE
