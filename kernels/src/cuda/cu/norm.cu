// RMS norm and layer norm, one warp per row: grid = ceil(rows/4), block = 128.
// Must not know: layers, devices, where rows come from.
#include "common.cuh"

/// Sums `term` of each element of a row, over the warp.
template <int N, typename Term>
static __device__ float sum_of(const float* x, int width, Term term) {
    float sum = 0.0f;
#pragma unroll 4
    for (int at = lane_of_warp() * N; at < width; at += WARP * N) {
        float values[N];
        load<N>(x + at, values);
#pragma unroll
        for (int i = 0; i < N; i++) {
            sum += term(values[i]);
        }
    }
    return warp_sum(sum);
}

/// `sum((x - shift)^2)`
template <int N>
static __device__ float squares(const float* x, int width, float shift) {
    return sum_of<N>(x, width, [shift](float number) { return (number - shift) * (number - shift); });
}

template <int N>
static __device__ float mean_of(const float* x, int width) {
    return sum_of<N>(x, width, [](float number) { return number; }) / static_cast<float>(width);
}

/// How elements become results: `(x - shift) * scale * weight + bias`.
struct Change {
    const float* weight;
    const float* bias;
    float shift;
    float scale;
};

template <int N, typename T>
static __device__ void write(const float* x, int width, Change change, float* normed, T* out) {
#pragma unroll 4
    for (int at = lane_of_warp() * N; at < width; at += WARP * N) {
        float values[N], weights[N], biases[N];
        load<N>(x + at, values);
        load<N>(change.weight + at, weights);
        if (change.bias != nullptr) {
            load<N>(change.bias + at, biases);
        }
#pragma unroll
        for (int i = 0; i < N; i++) {
            const float scaled = (values[i] - change.shift) * change.scale * weights[i];
            values[i] = change.bias != nullptr ? scaled + biases[i] : scaled;
        }
        if (normed != nullptr) {
            store<N>(normed + at, values);
        }
        store<N>(out + at, values);
    }
}

/// An RMS norm of rows, to which `added` may be added first. Then `x + added` is stored in `sums`;
/// otherwise both are null.
template <typename T>
struct RmsNorm {
    const float* x;
    const T* added;
    float* sums;
    const float* weight;
    float eps;
    int width;

    __device__ __forceinline__ RmsNorm of_row(long long row) const {
        const long long at = row * width;
        return {x + at, added == nullptr ? nullptr : added + at, sums == nullptr ? nullptr : sums + at, weight, eps, width};
    }
};

static __device__ __forceinline__ float rms_scale(float squares, int width, float eps) {
    return 1.0f / sqrtf(squares / static_cast<float>(width) + eps);
}

/// Loads elements of a row. If there are rows to add, adds them and stores the sums.
template <int N, typename T>
static __device__ __forceinline__ void add(const RmsNorm<T>& norm, int at, float (&values)[N]) {
    load<N>(norm.x + at, values);
    if (norm.added != nullptr) {
        float added[N];
        load<N>(norm.added + at, added);
#pragma unroll
        for (int i = 0; i < N; i++) {
            values[i] += added[i];
        }
        store<N>(norm.sums + at, values);
    }
}

/// For rows that a warp holds in registers: at most STEPS * 4 elements per lane.
template <int STEPS, typename T>
static __device__ __forceinline__ void rms_norm_held(const RmsNorm<T>& norm, T* out) {
    float values[STEPS][4], sum = 0.0f;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int at = (step * WARP + lane_of_warp()) * 4;
        if (at < norm.width) {
            add<4>(norm, at, values[step]);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                sum += values[step][i] * values[step][i];
            }
        }
    }
    const float scale = rms_scale(warp_sum(sum), norm.width, norm.eps);
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int at = (step * WARP + lane_of_warp()) * 4;
        if (at < norm.width) {
            float weights[4];
            load<4>(norm.weight + at, weights);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                values[step][i] = values[step][i] * scale * weights[i];
            }
            store<4>(out + at, values[step]);
        }
    }
}

/// For rows of any width, which are read twice.
template <int N, typename T>
static __device__ __forceinline__ void rms_norm_any(const RmsNorm<T>& norm, T* out) {
    float sum = 0.0f;
#pragma unroll 4
    for (int at = lane_of_warp() * N; at < norm.width; at += WARP * N) {
        float values[N];
        add<N>(norm, at, values);
#pragma unroll
        for (int i = 0; i < N; i++) {
            sum += values[i] * values[i];
        }
    }
    const Change change = {norm.weight, nullptr, 0.0f, rms_scale(warp_sum(sum), norm.width, norm.eps)};
    // Each lane reads only what it wrote itself.
    const float* sums = norm.added == nullptr ? norm.x : norm.sums;
    write<N>(sums, norm.width, change, static_cast<float*>(nullptr), out);
}

template <typename T>
static __device__ void rms_norm(const RmsNorm<T>& all, int rows, T* out) {
    const long long row = warp_of_grid();
    if (row >= rows) {
        return;
    }
    const RmsNorm<T> norm = all.of_row(row);
    out += row * all.width;
    if (norm.width % 4 == 0 && norm.width <= WARP * 4 * 8) {
        rms_norm_held<8>(norm, out);
    } else if (norm.width % 4 == 0) {
        rms_norm_any<4>(norm, out);
    } else {
        rms_norm_any<1>(norm, out);
    }
}

/// Weights and biases of a layer norm; no biases if null.
struct LayerNorm {
    const float* weight;
    const float* bias;
    float eps;
};

template <int N, typename T>
static __device__ void layer_norm_row(const float* x, LayerNorm norm, int width, float* normed, T* out) {
    const float mean = mean_of<N>(x, width);
    const float variance = squares<N>(x, width, mean) / static_cast<float>(width);
    const Change change = {norm.weight, norm.bias, mean, 1.0f / sqrtf(variance + norm.eps)};
    write<N>(x, width, change, normed, out);
}

template <typename T>
static __device__ void layer_norm(const float* x, LayerNorm norm, int rows, int width, float* normed, T* out) {
    const long long row = warp_of_grid();
    if (row >= rows) {
        return;
    }
    x += row * width;
    out += row * width;
    normed = normed == nullptr ? nullptr : normed + row * width;
    if (width % 4 == 0) {
        layer_norm_row<4>(x, norm, width, normed, out);
    } else {
        layer_norm_row<1>(x, norm, width, normed, out);
    }
}

#define FOR_TYPE(T, NAME)                                                                                            \
    extern "C" __global__ void __launch_bounds__(128)                                                                \
        rms_norm_##NAME(const float* x, const float* weight, float eps, int rows, int width, T* out) {               \
        rms_norm(RmsNorm<T>{x, nullptr, nullptr, weight, eps, width}, rows, out);                                    \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(128)                                                                \
        add_rms_norm_##NAME(const float* x, const T* added, const float* weight, float eps, int rows, int width,     \
                            float* sums, T* out) {                                                                   \
        rms_norm(RmsNorm<T>{x, added, sums, weight, eps, width}, rows, out);                                         \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(128)                                                                \
        layer_norm_##NAME(const float* x, const float* weight, const float* bias, float eps, int rows, int width,    \
                          float* normed, T* out) {                                                                   \
        layer_norm(x, LayerNorm{weight, bias, eps}, rows, width, normed, out);                                       \
    }

FOR_TYPE(float, f32)
FOR_TYPE(bf16, bf16)
FOR_TYPE(f16, f16)
#undef FOR_TYPE
