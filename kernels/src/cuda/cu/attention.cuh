// Inputs of the attention kernels: blocks of queries, and where the keys of their sequences are.
// Must not know: how attention is computed.
#pragma once

#include "common.cuh"

/// Query rows that are consecutive in the batch and in their sequence. The sequence's keys are
/// those of its spans.
struct Block {
    /// The first row in the batch.
    int row;
    int rows;
    /// Position of the first row in its sequence.
    int position;
    int first_span;
    int spans;
    /// Number of keys in the sequence.
    int length;
};
static_assert(sizeof(Block) == 24, "as the host lays it out");

/// Keys and values of some rows of a sequence: `address` is that of the first row's key of head 0;
/// values follow the keys at a distance of kv_heads*size elements. For rows of the batch itself,
/// `stride` is 0 and `address` is the index of the first row, so that the list is the same for all
/// layers.
struct Span {
    unsigned long long address;
    /// Elements from row to row.
    int stride;
    int rows;
};
static_assert(sizeof(Span) == 16, "as the host lays it out");

/// What is the same for all blocks of a launch.
struct Attention {
    const Block* blocks;
    const Span* spans;
    int row_width;
    int heads;
    int kv_heads;
    int size;
    /// 0 full, 1 causal, 2 within `window` positions, 3 causal and within `window` positions.
    int mask;
    int window;
    /// For kernels with a bias: what is added to scores, for each head and for each position of a
    /// key relative to the query, from -bias_reach to bias_reach.
    const float* bias;
    int bias_reach;
    /// For kernels with a bias by token: the terms of queries, then those of keys, [2, heads,
    /// batch_rows, bucket_count], and the bucket of each position relative to another token, from
    /// -bias_reach to bias_reach. A sequence's rows are then consecutive in the batch.
    const float* terms = nullptr;
    const unsigned int* buckets = nullptr;
    int bucket_count = 0;
    int batch_rows = 0;
};

/// What attention adds to scores.
enum class Bias { NONE, TABLE, TOKENS };

/// The biases of a head for the query at `position`: that of the key at position k is element k.
/// Elements of keys outside of the sequence must not be read.
static __device__ __forceinline__ const float* biases_of(const Attention& what, int head, int position) {
    const long long width = 2LL * what.bias_reach + 1;
    return what.bias + head * width + what.bias_reach - position;
}

/// The `Block` that a thread block computes, for one head: heads of the same rows are adjacent in
/// the grid.
static __device__ __forceinline__ int block_of_grid(const Attention& what) {
    return static_cast<int>(blockIdx.x) / what.heads;
}

static __device__ __forceinline__ int head_of_grid(const Attention& what) {
    return static_cast<int>(blockIdx.x) % what.heads;
}

/// How many positions a query sees before and after its own.
struct Reach {
    int before;
    int behind;
};

static __device__ __forceinline__ Reach reach_of(const Attention& what) {
    // Larger than any length, and small enough to be added to a position.
    constexpr int ALL = 1 << 29;
    if (what.mask >= 2) {
        const int window = min(what.window, ALL);
        return {window, what.mask == 2 ? window : 0};
    }
    return {ALL, what.mask == 1 ? 0 : ALL};
}

/// The keys that one or more queries see: positions from `first` up to but not including `end`.
struct Seen {
    int first;
    int end;
};

/// The keys that any of the queries at positions `from` to `to` (inclusive) sees.
static __device__ __forceinline__ Seen seen_by_any(Reach reach, int from, int to, int length) {
    return {max(0, from - reach.before), min(length, to + reach.behind + 1)};
}

/// The keys of the batch's own rows.
template <typename T>
struct Own {
    /// The first row's key of head 0.
    const T* keys;
    /// Elements from row to row.
    int stride;
};

template <typename T>
static __device__ __forceinline__ Own<T> own_of(const T* qkv, const Attention& what) {
    return {qkv + what.heads * what.size, what.row_width};
}

/// Walks through the spans of a sequence in order of position.
struct Walk {
    const Span* span;
    /// Position of the span's first key.
    int begin;
    /// Elements from the key of head 0 to that of the wanted head.
    int offset;

    /// The address of the wanted head's key at a position. The position must exist and must not
    /// precede those of earlier calls.
    template <typename T>
    __device__ __forceinline__ const T* key_at(int position, const Own<T>& own) {
        Span here = *span;
        while (position >= begin + here.rows) {
            begin += here.rows;
            here = *++span;
        }
        const bool is_own = here.stride == 0;
        const T* first = is_own ? own.keys : reinterpret_cast<const T*>(here.address);
        const long long row = position - begin + (is_own ? static_cast<int>(here.address) : 0);
        return first + offset + row * (is_own ? own.stride : here.stride);
    }
};
