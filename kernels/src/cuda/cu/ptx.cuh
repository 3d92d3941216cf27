// Instructions of compute capability 8.0 and up that CUDA C++ does not expose, and what differs
// between a GPU and the emulator: the GPU's versions are here, the others in
// kernels/emulator/native/emulated.h.
// Must not know: what is computed with them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

/// The block's dynamic shared memory.
static __device__ __forceinline__ unsigned char* shared_memory() {
    extern __shared__ __align__(128) unsigned char shared_bytes[];
    return shared_bytes;
}

/// Two values rounded to T and packed, the first in the lower half.
template <typename T>
static __device__ __forceinline__ unsigned pack(float low, float high);

template <>
__device__ __forceinline__ unsigned pack<__nv_bfloat16>(float low, float high) {
    unsigned packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

template <>
__device__ __forceinline__ unsigned pack<__half>(float low, float high) {
    unsigned packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/// 2^x, within about two ulps; exactly 1 for 0, exactly 0 for -infinity.
static __device__ __forceinline__ float exp2_fast(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

/// 1/x, within one ulp. True division would be a call, around which registers are saved.
static __device__ __forceinline__ float reciprocal_fast(float x) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

/// 1/sqrt(x), within two ulps.
static __device__ __forceinline__ float reciprocal_root_fast(float x) {
    float result;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

/// The lane's index in its warp, read where it is needed, so that values derived from it hold no
/// register before.
static __device__ __forceinline__ int lane_asked_again() {
    int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

/// An address in shared memory as instructions take it: one register instead of two.
static __device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

/// Starts copying 16 bytes to the shared-memory address `to`. If they are not wanted, writes zeros
/// and does not read `from`.
static __device__ __forceinline__ void copy_16(unsigned to, const void* from, bool wanted) {
    const int bytes = wanted ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

/// Commits the copies that this thread started as a group.
static __device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most the latest `LEFT` groups of this thread are pending.
template <int LEFT>
static __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

/// Loads four 8x8 matrices of 16-bit elements. Lanes 8i to 8i+7 give the rows of matrix i; register
/// i of lane l gets elements 2(l%4) and 2(l%4)+1 of its row l/4.
static __device__ __forceinline__ void load_matrices(unsigned row, unsigned (&to)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

/// As `load_matrices`, each matrix transposed.
static __device__ __forceinline__ void load_matrices_transposed(unsigned row, unsigned (&to)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

/// `sums += left * right`: 16x16 times 16x8 elements of type T, accumulated in float32. With group
/// = lane/4 and pair = 2(lane%4), `left` has (group, pair), (group+8, pair), (group, pair+8),
/// (group+8, pair+8), two columns each; `right` (pair, group), (pair+8, group), two rows each;
/// `sums` (group, pair), (group+8, pair), two columns each.
template <typename T>
static __device__ __forceinline__ void multiply_add(
    float (&sums)[4], const unsigned (&left)[4], unsigned right_0, unsigned right_1);

template <>
__device__ __forceinline__ void multiply_add<__nv_bfloat16>(
    float (&sums)[4], const unsigned (&left)[4], unsigned right_0, unsigned right_1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}

template <>
__device__ __forceinline__ void multiply_add<__half>(
    float (&sums)[4], const unsigned (&left)[4], unsigned right_0, unsigned right_1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}
