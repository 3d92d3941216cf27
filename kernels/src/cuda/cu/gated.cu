// The gate of a gated linear layer: `act(gate) * value`. Elementwise, any one-dimensional grid.
// Must not know: where the values come from.
#include "common.cuh"

/// Gates and values alternate in groups of this many elements.
constexpr int GATE_GROUP = 16;

template <typename T>
static __device__ void gated(const T* both, long long rows, int width, int activation, T* out) {
    /// Elements that a thread computes at a time: half a group.
    constexpr int N = 8;
    const long long count = rows * width / N, step = static_cast<long long>(gridDim.x) * blockDim.x;
#pragma unroll 2
    for (long long part = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; part < count; part += step) {
        const long long at = part * N;
        // Rows consist of whole groups, so groups are counted across rows.
        const T* gates = both + at / GATE_GROUP * (2 * GATE_GROUP) + at % GATE_GROUP;
        float gate[N], value[N];
        load<N>(gates, gate);
        load<N>(gates + GATE_GROUP, value);
#pragma unroll
        for (int i = 0; i < N; i++) {
            value[i] = activated_for<T>(gate[i], activation) * value[i];
        }
        store<N>(out + at, value);
    }
}

#define FOR_TYPE(T, NAME)                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
        gated_##NAME(const T* both, long long rows, int width, int activation, T* out) {                             \
        gated(both, rows, width, activation, out);                                                                   \
    }

FOR_TYPE(float, f32)
FOR_TYPE(bf16, bf16)
FOR_TYPE(f16, f16)
#undef FOR_TYPE
