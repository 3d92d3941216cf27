// Shared by all kernels: element types, vector loads and stores, sums over a warp, activations.
// Arithmetic is in float32; `bf16` and `f16` are for memory and tensor cores.
// Must not know: any one kernel.
#pragma once

#ifdef __CUDACC__
#include "ptx.cuh"
#else
#include "emulated.h"
#endif

using bf16 = __nv_bfloat16;
using f16 = __half;

/// Threads per warp.
constexpr int WARP = 32;
/// The mask for shuffles of the whole warp.
constexpr unsigned ALL_LANES = 0xffffffffu;

static __device__ __forceinline__ int lane_of_warp() {
    return static_cast<int>(threadIdx.x) % WARP;
}

/// The warp's index among all warps of a one-dimensional grid.
static __device__ __forceinline__ long long warp_of_grid() {
    const long long warps = static_cast<long long>(blockDim.x) / WARP;
    return blockIdx.x * warps + static_cast<int>(threadIdx.x) / WARP;
}

static __device__ __forceinline__ float widened(float number) {
    return number;
}

static __device__ __forceinline__ float widened(bf16 number) {
    return __bfloat162float(number);
}

static __device__ __forceinline__ float widened(f16 number) {
    return __half2float(number);
}

/// Rounds to T: to nearest, ties to even.
template <typename T>
static __device__ __forceinline__ T rounded(float number);

template <>
__device__ __forceinline__ float rounded<float>(float number) {
    return number;
}

template <>
__device__ __forceinline__ bf16 rounded<bf16>(float number) {
    return __float2bfloat16_rn(number);
}

template <>
__device__ __forceinline__ f16 rounded<f16>(float number) {
    return __float2half_rn(number);
}

/// N consecutive elements, aligned so that they are read and written in vectors of up to 16 bytes.
template <typename T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Elements {
    T at[N];
};

/// Loads N elements, widened. The address is a multiple of their size, or of 16 bytes.
template <int N, typename T>
static __device__ __forceinline__ void load(const T* from, float (&to)[N]) {
    const Elements<T, N> values = *reinterpret_cast<const Elements<T, N>*>(from);
#pragma unroll
    for (int i = 0; i < N; i++) {
        to[i] = widened(values.at[i]);
    }
}

/// Stores N values, rounded to T. The address is as for `load`.
template <int N, typename T>
static __device__ __forceinline__ void store(T* to, const float (&from)[N]) {
    Elements<T, N> values;
#pragma unroll
    for (int i = 0; i < N; i++) {
        values.at[i] = rounded<T>(from[i]);
    }
    *reinterpret_cast<Elements<T, N>*>(to) = values;
}

/// The sum over a warp, the same bits in every lane.
template <typename F>
static __device__ __forceinline__ F warp_sum(F number) {
#pragma unroll
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        number += __shfl_xor_sync(ALL_LANES, number, distance);
    }
    return number;
}

/// An activation by its number: 0 GELU (erf), 1 GELU (tanh), 2 SiLU, 3 ReLU, 4 tanh, any other
/// none. NaN stays NaN.
static __device__ __forceinline__ float activated(float x, int activation) {
    switch (activation) {
        case 0: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
        case 1: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
        case 2: return x / (1.0f + expf(-x));
        case 3: return x < 0.0f ? 0.0f : x;
        case 4: return tanhf(x);
        default: return x;
    }
}

/// As `activated`, only as exact as T needs: for 16-bit types, SiLU uses the approximate
/// exponential and reciprocal instructions, which are a few float32 ulps off.
template <typename T>
static __device__ __forceinline__ float activated_for(float x, int activation) {
    if (sizeof(T) == 2 && activation == 2) {
        return x * reciprocal_fast(1.0f + exp2_fast(-1.44269504f * x));
    }
    return activated(x, activation);
}
