// Instructions of NVIDIA GPUs that CUDA C++ has no name for, compute capability 8.0 and up, and what differs between
// a GPU and the emulator: here the GPU's form, in kernels/emulator/native/emulated.h the other.
// Must not know: what is computed with them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

/// The block's dynamic shared memory.
static __device__ __forceinline__ unsigned char* shared_memory() {
    extern __shared__ __align__(128) unsigned char shared_bytes[];
    return shared_bytes;
}

/// Two numbers rounded to T and packed, the first in the lower half.
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

/// 2^x, about two units in the last place from exact; exactly 1 of 0, exactly 0 of -infinity.
static __device__ __forceinline__ float exp2_fast(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

/// 1/x, a unit in the last place from exact. Division proper would be a call, around which registers are saved.
static __device__ __forceinline__ float reciprocal_fast(float x) {
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

/// 1/sqrt(x), two units in the last place from exact.
static __device__ __forceinline__ float reciprocal_root_fast(float x) {
    float result;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

/// The lane's number in its warp, read where it is asked for, so that what follows from it holds no register before.
static __device__ __forceinline__ int lane_asked_again() {
    int lane;
    asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
    return lane;
}

/// The address of a place in shared memory as instructions take it: one register, not two.
static __device__ __forceinline__ unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

/// Starts copying 16 bytes to shared memory, to an address in it, or zeros if they are not wanted: `from` is not read then.
static __device__ __forceinline__ void copy_16(unsigned to, const void* from, bool wanted) {
    const int bytes = wanted ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes)
                 : "memory");
}

/// Ends a group of the copies that this thread started.
static __device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until no more than the latest `LEFT` groups of this thread are under way.
template <int LEFT>
static __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

/// Four 8x8 matrices of 16-bit numbers. Lanes 8i to 8i+7 give the rows of matrix i; register i of lane l has numbers
/// 2(l%4) and 2(l%4)+1 of row l/4 of it.
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

/// `sums += left * right`: 16x16 times 16x8 numbers of type T, sums in float32. With group = lane/4 and pair =
/// 2(lane%4), `left` has (group, pair), (group+8, pair), (group, pair+8), (group+8, pair+8), two columns each; `right`
/// (pair, group), (pair+8, group), two rows each; `sums` (group, pair), (group+8, pair), two columns each.
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
