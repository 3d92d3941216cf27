// Rotary positions (RoPE) of queries and keys in place, after the norms of their heads. Head sizes
// are even and at most 256; values are unchanged. `rotary` uses a warp for each (row, head): grid =
// ceil(rows*(heads+kv_heads)/4), block = 128. `rotary_wide` is for head sizes 16, 32, 64, 128 and
// 256: a lane takes 16 elements of a head, and possibly of several heads of its row in turn: grid =
// ceil(rows*parts/4), block = 128, with `parts` warps per row.
// Must not know: what positions mean, where tables come from.
#include "common.cuh"

/// Layout of a row: `heads` queries, `kv_heads` keys, `kv_heads` values, `size` elements each.
struct Heads {
    int heads;
    int kv_heads;
    int size;
};

/// Weights of the head norms; none if null.
struct HeadNorms {
    const float* query;
    const float* key;
    float eps;
};

/// The norm of one head.
struct HeadNorm {
    const float* weight;
    float eps;
};

/// Norms and rotates one head: the left half in `left`, the right half in `right`, N elements per
/// lane and step.
template <int N, typename T>
static __device__ void turn(T* head, int half, const float* weight, float eps, const float* cos, const float* sin) {
    /// Steps over half a head, at most.
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
    T* elements = qkv + (row * (turned + shape.kv_heads) + head) * shape.size;
    const float* weight = head < shape.heads ? norms.query : norms.key;
    const long long table = static_cast<long long>(positions[row]) * half;
    if (half % 2 == 0) {
        turn<2>(elements, half, weight, norms.eps, cos + table, sin + table);
    } else {
        turn<1>(elements, half, weight, norms.eps, cos + table, sin + table);
    }
}

/// Elements of each half that a lane takes in `rotary_wide`.
constexpr int WIDE = 8;

/// The sum over `lanes` neighbours (a power of two), with the same bits in each.
static __device__ __forceinline__ float sum_of_neighbours(float number, int lanes) {
    for (int distance = lanes / 2; distance > 0; distance /= 2) {
        number += __shfl_xor_sync(ALL_LANES, number, distance);
    }
    return number;
}

/// Norms and rotates a lane's part of a head. Lanes without a head take part in the sums.
template <typename T>
static __device__ __forceinline__ void turn_wide(T* head, bool there, int half, int column, HeadNorm norm,
                                                 const float (&cos)[WIDE], const float (&sin)[WIDE]) {
    float left[WIDE] = {}, right[WIDE] = {};
    if (there) {
        load<WIDE>(head, left);
        load<WIDE>(head + half, right);
    }
    const float* weight = norm.weight;
    if (weight != nullptr) {
        float sum = 0.0f, weights[WIDE];
#pragma unroll
        for (int i = 0; i < WIDE; i++) {
            sum += left[i] * left[i] + right[i] * right[i];
        }
        sum = sum_of_neighbours(sum, half / WIDE);
        const float scale = 1.0f / sqrtf(sum / static_cast<float>(2 * half) + norm.eps);
        load<WIDE>(weight + column, weights);
#pragma unroll
        for (int i = 0; i < WIDE; i++) {
            left[i] = left[i] * scale * weights[i];
        }
        load<WIDE>(weight + half + column, weights);
#pragma unroll
        for (int i = 0; i < WIDE; i++) {
            right[i] = right[i] * scale * weights[i];
        }
    }
#pragma unroll
    for (int i = 0; i < WIDE; i++) {
        const float l = left[i], r = right[i];
        left[i] = l * cos[i] - r * sin[i];
        right[i] = r * cos[i] + l * sin[i];
    }
    if (there) {
        store<WIDE>(head, left);
        store<WIDE>(head + half, right);
    }
}

template <typename T>
static __device__ void rotary_wide(T* qkv, int rows, int parts, Heads shape, HeadNorms norms, const unsigned* positions,
                                   const float* cos, const float* sin) {
    const long long warp = warp_of_grid(), row = warp / parts;
    if (row >= rows) {
        return;
    }
    const int turned = shape.heads + shape.kv_heads, half = shape.size / 2, lanes = half / WIDE;
    const int column = lane_of_warp() % lanes * WIDE, at_a_time = WARP / lanes;
    const long long table = static_cast<long long>(positions[row]) * half + column;
    float cosines[WIDE], sines[WIDE];
    load<WIDE>(cos + table, cosines);
    load<WIDE>(sin + table, sines);
    T* elements = qkv + row * (turned + shape.kv_heads) * shape.size + column;
#pragma unroll 2
    for (int first = static_cast<int>(warp % parts) * at_a_time; first < turned; first += parts * at_a_time) {
        const int head = first + lane_of_warp() / lanes;
        const HeadNorm norm = {head < shape.heads ? norms.query : norms.key, norms.eps};
        turn_wide(elements + head * shape.size, head < turned, half, column, norm, cosines, sines);
    }
}

#define FOR_TYPE(T, NAME)                                                                                            \
    extern "C" __global__ void __launch_bounds__(128)                                                                \
        rotary_##NAME(T* qkv, int rows, int heads, int kv_heads, int size, const float* query_norm,                  \
                      const float* key_norm, float eps, const unsigned* positions, const float* cos,                 \
                      const float* sin) {                                                                            \
        const HeadNorms norms = {query_norm, key_norm, eps};                                                         \
        rotary(qkv, rows, Heads{heads, kv_heads, size}, norms, positions, cos, sin);                                 \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(128)                                                                \
        rotary_wide_##NAME(T* qkv, int rows, int parts, int heads, int kv_heads, int size, const float* query_norm,  \
                           const float* key_norm, float eps, const unsigned* positions, const float* cos,            \
                           const float* sin) {                                                                       \
        const HeadNorms norms = {query_norm, key_norm, eps};                                                         \
        rotary_wide(qkv, rows, parts, Heads{heads, kv_heads, size}, norms, positions, cos, sin);                     \
    }

FOR_TYPE(float, f32)
FOR_TYPE(bf16, bf16)
FOR_TYPE(f16, f16)
#undef FOR_TYPE
