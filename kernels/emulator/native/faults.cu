// Kernels with one bug each, which the emulator must detect, and one without: block = 64, 1024
// bytes of shared memory. Most copy values to shared memory and write out those of another thread.
// Must not know: real kernels.
#include "common.cuh"

static __device__ float* fault_numbers() {
    return reinterpret_cast<float*>(shared_memory());
}

extern "C" __global__ void fault_none(const float* from, float* out) {
    const int at = static_cast<int>(threadIdx.x);
    if (at < 16) {
        copy_16(shared_address(fault_numbers() + 4 * at), from + 4 * at, true);
    }
    commit_copies();
    wait_for_copies<0>();
    __syncthreads();
    out[at] = fault_numbers()[63 - at];
}

extern "C" __global__ void fault_no_barrier(const float* from, float* out) {
    const int at = static_cast<int>(threadIdx.x);
    fault_numbers()[at] = from[at];
    out[at] = fault_numbers()[63 - at];
}

extern "C" __global__ void fault_no_wait(const float* from, float* out) {
    const int at = static_cast<int>(threadIdx.x);
    if (at < 16) {
        copy_16(shared_address(fault_numbers() + 4 * at), from + 4 * at, true);
    }
    commit_copies();
    __syncthreads();
    out[at] = fault_numbers()[63 - at];
}

extern "C" __global__ void fault_no_warp_barrier(const float* from, float* out) {
    const int at = static_cast<int>(threadIdx.x);
    fault_numbers()[at] = from[at];
    out[at] = fault_numbers()[at ^ 31];
}

extern "C" __global__ void fault_diverged(const float* from, float* out) {
    const int at = static_cast<int>(threadIdx.x);
    if (at % 2 == 0) {
        out[at] = __shfl_xor_sync(ALL_LANES, from[at], 1);
    } else {
        __syncthreads();
    }
}

extern "C" __global__ void fault_left(const float* from, float* out) {
    const int at = static_cast<int>(threadIdx.x);
    if (at == 7) {
        return;
    }
    out[at] = __shfl_xor_sync(ALL_LANES, from[at], 1);
}

extern "C" __global__ void fault_beyond(const float* from, float* out) {
    const int at = static_cast<int>(threadIdx.x);
    fault_numbers()[256 + at] = from[at];
    out[at] = from[at];
}
