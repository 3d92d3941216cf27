// The epilogue of a linear layer, in place: `act(x + bias)`. Elementwise, any one-dimensional grid.
// Must not know: where the values come from.
#include "common.cuh"

template <int N, typename T>
static __device__ void finish(T* x, long long rows, int width, const float* bias, int activation) {
    const long long count = rows * width / N, step = static_cast<long long>(gridDim.x) * blockDim.x;
    for (long long part = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; part < count; part += step) {
        float values[N];
        load<N>(x + part * N, values);
        if (bias != nullptr) {
            float biases[N];
            load<N>(bias + part % (width / N) * N, biases);
#pragma unroll
            for (int i = 0; i < N; i++) {
                values[i] += biases[i];
            }
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            values[i] = activated_for<T>(values[i], activation);
        }
        store<N>(x + part * N, values);
    }
}

template <typename T>
static __device__ void epilogue(T* x, long long rows, int width, const float* bias, int activation) {
    if (width % 8 == 0) {
        finish<8>(x, rows, width, bias, activation);
    } else {
        finish<1>(x, rows, width, bias, activation);
    }
}

#define FOR_TYPE(T, NAME)                                                                                            \
    extern "C" __global__ void __launch_bounds__(256)                                                                \
        epilogue_##NAME(T* x, long long rows, int width, const float* bias, int activation) {                        \
        epilogue(x, rows, width, bias, activation);                                                                  \
    }

FOR_TYPE(float, f32)
FOR_TYPE(bf16, bf16)
FOR_TYPE(f16, f16)
#undef FOR_TYPE
