// CUDA's language and the instructions of ptx.cuh on a CPU, as far as the kernels use them: each
// thread of a block is a fiber, and warp-wide operations are computed by the last lane to arrive.
// Must not know: any one kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulator {

struct Index {
    unsigned x, y, z;
};

/// A thread's indices, and the sizes of its block and grid.
struct Place {
    Index thread, block, block_size, grid_size;
};

/// The `Place` of the running thread.
const Place& place();

/// A warp-wide operation: reads the operands of its 32 lanes and writes the results there.
using Work = void (*)(void* const* lanes);

/// Contributes `mine` to a warp-wide operation and returns when it is done.
void together(Work work, void* mine);

/// Waits for all threads of the block.
void block_barrier();

/// The block's shared memory, initialised to bytes 0xff: NaN in every type.
unsigned char* shared();

/// Ends the launch with a message, which is copied.
[[noreturn]] void fail(const char* message);

/// The 16 bytes at a shared-memory address; fails if they are out of bounds or misaligned.
unsigned char* shared_16(unsigned address);

void start_copy(unsigned to, const void* from, bool wanted);
void commit_copies();
void wait_for_copies(int left);

float half_to_float(uint16_t bits);
uint16_t float_to_half(float number);

struct ShuffleOf {
    uint64_t number;
    uint64_t result;
    int lane;
};

/// Gives each lane the value of the lane that it names.
void shuffle(void* const* lanes);
/// Gives every lane a bit mask of the lanes that voted yes.
void ballot(void* const* lanes);
void nothing(void* const* lanes);

struct MatricesOf {
    unsigned row;
    unsigned* to;
};

void matrices(void* const* lanes);
void matrices_transposed(void* const* lanes);

struct ProductOf {
    float* sums;
    const unsigned* left;
    unsigned right[2];
};

void product_bf16(void* const* lanes);
void product_f16(void* const* lanes);

}  // namespace emulator

// === The language ===

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define threadIdx (::emulator::place().thread)
#define blockIdx (::emulator::place().block)
#define blockDim (::emulator::place().block_size)
#define gridDim (::emulator::place().grid_size)

using std::max;
using std::min;

struct __nv_bfloat16 {
    uint16_t bits;
};

struct __half {
    uint16_t bits;
};

static inline float __bfloat162float(__nv_bfloat16 number) {
    const uint32_t bits = static_cast<uint32_t>(number.bits) << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

/// Rounds to nearest, ties to even.
static inline __nv_bfloat16 __float2bfloat16_rn(float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    if (number != number) {
        return {0x7fff};
    }
    return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

static inline float __half2float(__half number) {
    return emulator::half_to_float(number.bits);
}

static inline __half __float2half_rn(float number) {
    return {emulator::float_to_half(number)};
}

// === Warp-wide and block-wide operations ===

static inline void __syncthreads() {
    emulator::block_barrier();
}

static inline void __syncwarp() {
    emulator::together(emulator::nothing, nullptr);
}

template <typename N>
static inline N shuffled(N number, int lane) {
    static_assert(sizeof(N) <= 8, "a register or two");
    emulator::ShuffleOf mine = {0, 0, lane};
    std::memcpy(&mine.number, &number, sizeof number);
    emulator::together(emulator::shuffle, &mine);
    std::memcpy(&number, &mine.result, sizeof number);
    return number;
}

template <typename N>
static inline N __shfl_xor_sync(unsigned lanes, N number, int distance) {
    if (lanes != 0xffffffffu) {
        emulator::fail("a shuffle of a part of a warp");
    }
    return shuffled(number, static_cast<int>(threadIdx.x % 32) ^ distance);
}

template <typename N>
static inline N __shfl_sync(unsigned lanes, N number, int lane) {
    if (lanes != 0xffffffffu) {
        emulator::fail("a shuffle of a part of a warp");
    }
    return shuffled(number, lane);
}

static inline unsigned __ballot_sync(unsigned lanes, int set) {
    if (lanes != 0xffffffffu) {
        emulator::fail("a vote of a part of a warp");
    }
    emulator::ShuffleOf mine = {set != 0, 0, 0};
    emulator::together(emulator::ballot, &mine);
    return static_cast<unsigned>(mine.result);
}

static inline int __any_sync(unsigned lanes, int set) {
    return __ballot_sync(lanes, set) != 0;
}

// === The functions of ptx.cuh ===

static inline unsigned char* shared_memory() {
    return emulator::shared();
}

static inline float reciprocal_fast(float x) {
    return 1.0f / x;
}

static inline float reciprocal_root_fast(float x) {
    return 1.0f / std::sqrt(x);
}

static inline int lane_asked_again() {
    return static_cast<int>(threadIdx.x % 32);
}

static inline unsigned shared_address(const void* pointer) {
    return static_cast<unsigned>(static_cast<const unsigned char*>(pointer) - emulator::shared());
}

template <typename T>
static inline unsigned pack(float low, float high);

template <>
inline unsigned pack<__nv_bfloat16>(float low, float high) {
    return __float2bfloat16_rn(low).bits | static_cast<unsigned>(__float2bfloat16_rn(high).bits) << 16;
}

template <>
inline unsigned pack<__half>(float low, float high) {
    return __float2half_rn(low).bits | static_cast<unsigned>(__float2half_rn(high).bits) << 16;
}

/// As the GPU's instruction, which flushes denormal results to zero.
static inline float exp2_fast(float x) {
    const float power = std::exp2(x);
    return power < 1.17549435e-38f ? 0.0f : power;
}

static inline void copy_16(unsigned to, const void* from, bool wanted) {
    emulator::start_copy(to, from, wanted);
}

static inline void commit_copies() {
    emulator::commit_copies();
}

template <int LEFT>
static inline void wait_for_copies() {
    emulator::wait_for_copies(LEFT);
}

static inline void load_matrices(unsigned row, unsigned (&to)[4]) {
    emulator::MatricesOf mine = {row, to};
    emulator::together(emulator::matrices, &mine);
}

static inline void load_matrices_transposed(unsigned row, unsigned (&to)[4]) {
    emulator::MatricesOf mine = {row, to};
    emulator::together(emulator::matrices_transposed, &mine);
}

template <typename T>
static inline void multiply_add(float (&sums)[4], const unsigned (&left)[4], unsigned right_0, unsigned right_1);

template <>
inline void multiply_add<__nv_bfloat16>(
    float (&sums)[4], const unsigned (&left)[4], unsigned right_0, unsigned right_1) {
    emulator::ProductOf mine = {sums, left, {right_0, right_1}};
    emulator::together(emulator::product_bf16, &mine);
}

template <>
inline void multiply_add<__half>(float (&sums)[4], const unsigned (&left)[4], unsigned right_0, unsigned right_1) {
    emulator::ProductOf mine = {sums, left, {right_0, right_1}};
    emulator::together(emulator::product_f16, &mine);
}
