// Attention on tensor cores, streaming over tiles of keys (Dao, FlashAttention-2, 2023): grid =
// blocks * heads, block = 128. A block has at most 128 query rows, two groups of 16 per warp, so
// that keys and values that a warp has read from shared memory are used twice. Head sizes are
// multiples of 8; addresses of spans are multiples of 16 bytes, and strides of 8 elements.
//
// Dynamic shared memory is `Tiles<SIZE>::SHARED`: 32768 bytes at size 32, 57344 at 64, 46080 at 80,
// 54272 at 96 and 70656 at 128.
//
// Tiles begin at multiples of their length in the sequence, and a tile that is fully masked for a
// row leaves that row's bits unchanged, so a row's result depends on its sequence alone. This needs
// finite sequences: weight 0 times NaN is NaN, so a NaN value shows in the rows of its sequence,
// whatever the mask.
// Must not know: layers, where keys come from.
#include "attention.cuh"

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
/// Query rows that a warp multiplies at once.
constexpr int WARP_ROWS = 16;
/// How many such groups a warp has. Groups are dealt to the warps in turn, which balances them
/// under a causal mask, where lower rows see fewer keys.
constexpr int TURNS = 2;
/// Query rows per block.
constexpr int ROWS = TURNS * WARPS * WARP_ROWS;

/// Tiles of keys and values for heads of up to SIZE elements.
template <int SIZE>
struct Tiles {
    /// Keys per tile. Fewer for large heads, so that scores leave registers for sums, and a
    /// multiprocessor with 100 KB of shared memory has room for two blocks or more.
    static constexpr int KEYS = SIZE <= 64 ? 64 : 32;
    /// Resident blocks per multiprocessor to compile for: as many as possible without spilling
    /// registers.
    static constexpr int BLOCKS = SIZE <= 32 ? 3 : 2;
    /// Elements from row to row: an odd number of 16-byte pieces, so that 8 rows lie in different
    /// banks.
    static constexpr int STRIDE = SIZE + 8;
    /// Elements of the keys, or of the values, of a tile.
    static constexpr int TILE_ELEMENTS = KEYS * STRIDE;
    /// Keys and values of two tiles, the key addresses of two tiles, a walk for each key of a tile,
    /// and queries.
    static constexpr int SHARED = 4 * TILE_ELEMENTS * 2 + 2 * KEYS * 8 + KEYS * 16 + ROWS * STRIDE * 2;
    /// 16-byte pieces in a row.
    static constexpr int PIECES = SIZE / 8;
};

/// Byte offsets of the parts of a block's shared memory. Keys, values and addresses are
/// double-buffered: each has room for two tiles.
template <int SIZE>
struct Place {
    /// Size of the keys, or of the values, of a tile.
    static constexpr int TILE = Tiles<SIZE>::TILE_ELEMENTS * 2;
    static constexpr int VALUES = 2 * TILE;
    static constexpr int ADDRESSES = 4 * TILE;
    static constexpr int WALKS = ADDRESSES + 2 * Tiles<SIZE>::KEYS * 8;
    static constexpr int QUERIES = WALKS + Tiles<SIZE>::KEYS * static_cast<int>(sizeof(Walk));
    static_assert(QUERIES + ROWS * Tiles<SIZE>::STRIDE * 2 == Tiles<SIZE>::SHARED, "no gap");
};

/// Where the addresses of a tile's keys are stored; null where there is no key.
template <typename T, int SIZE>
static __device__ __forceinline__ const T** addresses_of(int tile) {
    auto* all = reinterpret_cast<const T**>(shared_memory() + Place<SIZE>::ADDRESSES);
    return all + tile % 2 * Tiles<SIZE>::KEYS;
}

/// Stores the addresses of a tile's keys, for this block's head; null from position `end` on.
template <typename T, int SIZE>
static __device__ __forceinline__ void note_addresses(int tile, int end, const Own<T>& own) {
    const int key = static_cast<int>(threadIdx.x);
    if (key < Tiles<SIZE>::KEYS) {
        // In shared memory to save registers; only this thread uses it.
        Walk& walk = reinterpret_cast<Walk*>(shared_memory() + Place<SIZE>::WALKS)[key];
        const int position = tile * Tiles<SIZE>::KEYS + key;
        addresses_of<T, SIZE>(tile)[key] = position < end ? walk.key_at<T>(position, own) : nullptr;
    }
}

/// Starts the walks through a block's spans, and stores the key addresses of two tiles.
template <typename T, int SIZE>
static __device__ __forceinline__ void begin_walks(const Walk& begin, int tile, int end, const Own<T>& own) {
    if (static_cast<int>(threadIdx.x) < Tiles<SIZE>::KEYS) {
        reinterpret_cast<Walk*>(shared_memory() + Place<SIZE>::WALKS)[threadIdx.x] = begin;
    }
    note_addresses<T, SIZE>(tile, end, own);
    note_addresses<T, SIZE>(tile + 1, end, own);
}

/// Starts copying the keys and values of a tile; fills what is beyond the head or the sequence with
/// zeros.
template <typename T, int SIZE>
static __device__ __forceinline__ void start_tile(unsigned shared, int tile, int size, int to_values) {
    using Of = Tiles<SIZE>;
    const T** addresses = addresses_of<T, SIZE>(tile);
    shared += tile % 2 * Place<SIZE>::TILE;
#pragma unroll
    for (int at = static_cast<int>(threadIdx.x); at < Of::KEYS * Of::PIECES; at += THREADS) {
        const int key = at / Of::PIECES, column = at % Of::PIECES * 8;
        const T* from = addresses[key];
        const bool wanted = from != nullptr && column < size;
        const unsigned to = shared + (key * Of::STRIDE + column) * 2;
        copy_16(to, from + column, wanted);
        copy_16(to + Place<SIZE>::VALUES, from + to_values + column, wanted);
    }
    commit_copies();
}

/// Starts copying the queries of a block; zeros where there is no row or column.
template <typename T, int SIZE>
static __device__ __forceinline__ void start_queries(unsigned shared, const T* first, int row_width, int rows, int size) {
    using Of = Tiles<SIZE>;
#pragma unroll 4
    for (int at = static_cast<int>(threadIdx.x); at < ROWS * Of::PIECES; at += THREADS) {
        const int row = at / Of::PIECES, column = at % Of::PIECES * 8;
        const bool wanted = row < rows && column < size;
        const T* from = first + static_cast<long long>(row) * row_width + column;
        copy_16(shared + Place<SIZE>::QUERIES + (row * Of::STRIDE + column) * 2, from, wanted);
    }
}

/// A lane's softmax state for the two rows that it has a part of: rows lane/4 and lane/4 + 8 of its
/// warp.
struct Softmax {
    /// The largest score so far.
    float top[2];
    /// The sum of this lane's weights, relative to `top`.
    float sum[2];
};

/// Byte offset in a tile of the row that this lane addresses, for four 8x8 matrices that cover 16
/// rows and 16 columns.
template <int SIZE>
static __device__ __forceinline__ unsigned place_in_pieces() {
    const int lane = lane_of_warp();
    return (lane % 16 * Tiles<SIZE>::STRIDE + lane / 16 * 8) * 2;
}

/// As `place_in_pieces`, for a right operand whose columns are stored as rows: the second matrix is
/// the right half of the first 8 rows, so that the operands of one `multiply_add` are in
/// consecutive registers.
template <int SIZE>
static __device__ __forceinline__ unsigned place_in_halves() {
    const int lane = lane_of_warp();
    return ((lane % 8 + lane / 16 * 8) * Tiles<SIZE>::STRIDE + lane / 8 % 2 * 8) * 2;
}

/// Multiplies a warp's queries, of turns [FROM, TO), with the keys of a tile: scores
/// [turn][key/8][row/8*2 + key%2] in the layout of `multiply_add`.
template <typename T, int SIZE, int FROM, int TO>
static __device__ __forceinline__ void multiply_keys(
    unsigned keys, unsigned queries, float (&scores)[TURNS][Tiles<SIZE>::KEYS / 8][4]) {
    using Of = Tiles<SIZE>;
    // Query matrices: of 16 columns, the left half of rows 0-7 and of rows 8-15, then the right
    // half of both. Key matrices: both halves of keys 0-7, then of keys 8-15.
    queries += place_in_pieces<SIZE>();
    keys += place_in_halves<SIZE>();
#pragma unroll
    for (int step = 0; step < SIZE / 16; step++) {
        unsigned left[TURNS][4];
#pragma unroll
        for (int turn = FROM; turn < TO; turn++) {
            const int row = turn * WARPS * WARP_ROWS;
            load_matrices(queries + (row * Of::STRIDE + step * 16) * 2, left[turn]);
        }
#pragma unroll
        for (int key = 0; key < Of::KEYS; key += 16) {
            unsigned right[4];
            load_matrices(keys + (key * Of::STRIDE + step * 16) * 2, right);
#pragma unroll
            for (int turn = FROM; turn < TO; turn++) {
                multiply_add<T>(scores[turn][key / 8], left[turn], right[0], right[1]);
                multiply_add<T>(scores[turn][key / 8 + 1], left[turn], right[2], right[3]);
            }
        }
    }
}

/// Adds the products of weights and values to `sums`, which are laid out as scores are, by columns
/// of the head.
template <typename T, int SIZE, int FROM, int TO>
static __device__ __forceinline__ void multiply_values(
    unsigned values, const float (&weights)[TURNS][Tiles<SIZE>::KEYS / 8][4], float (&sums)[TURNS][SIZE / 8][4]) {
    using Of = Tiles<SIZE>;
    // Matrices: 8 columns of keys 0-7 and of keys 8-15, then the next 8 columns of both.
    const unsigned row = values + place_in_pieces<SIZE>();
#pragma unroll
    for (int key = 0; key < Of::KEYS; key += 16) {
        unsigned left[TURNS][4];
#pragma unroll
        for (int turn = FROM; turn < TO; turn++) {
            const float(&low)[4] = weights[turn][key / 8];
            const float(&high)[4] = weights[turn][key / 8 + 1];
            left[turn][0] = pack<T>(low[0], low[1]);
            left[turn][1] = pack<T>(low[2], low[3]);
            left[turn][2] = pack<T>(high[0], high[1]);
            left[turn][3] = pack<T>(high[2], high[3]);
        }
#pragma unroll
        for (int column = 0; column < SIZE; column += 16) {
            unsigned right[4];
            load_matrices_transposed(row + (key * Of::STRIDE + column) * 2, right);
#pragma unroll
            for (int turn = FROM; turn < TO; turn++) {
                multiply_add<T>(sums[turn][column / 8], left[turn], right[0], right[1]);
                multiply_add<T>(sums[turn][column / 8 + 1], left[turn], right[2], right[3]);
            }
        }
    }
}

/// Masks the scores of keys that a row does not see. `first` is the position of the warp's first
/// row, `begin` that of the tile's first key; no row sees keys from `length` on.
template <int N>
static __device__ __forceinline__ void hide(float (&scores)[N][4], Reach reach, int first, int begin, int length) {
    const int lane = lane_asked_again();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int position = first + lane / 4 + half * 8;
        const Seen seen = seen_by_any(reach, position, position, length);
#pragma unroll
        for (int at = 0; at < N; at++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int key = begin + at * 8 + lane % 4 * 2 + i;
                if (key < seen.first || key >= seen.end) {
                    scores[at][half * 2 + i] = -INFINITY;
                }
            }
        }
    }
}

/// Adds a bias to the scores of keys that exist. `first` is the position of the warp's first row,
/// `begin` that of the tile's first key. Scores are scaled later, so biases are divided by the scale.
template <int N>
static __device__ __forceinline__ void add_bias(
    float (&scores)[N][4], const Attention& what, float inverse, int first, int begin, int length) {
    const int lane = lane_asked_again();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        // Rows after a block's last one may lie after the sequence's end, too.
        const int position = min(first + lane / 4 + half * 8, length - 1);
        const float* biases = biases_of(what, head_of_grid(what), position);
#pragma unroll
        for (int at = 0; at < N; at++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const int key = begin + at * 8 + lane % 4 * 2 + i;
                if (key < length) {
                    scores[at][half * 2 + i] += biases[key] * inverse;
                }
            }
        }
    }
}

/// Turns scores into weights relative to the largest score so far; `change` is set to the factor
/// for earlier weights.
template <int N>
static __device__ __forceinline__ void weigh(
    float (&scores)[N][4], Softmax& softmax, float scale, float (&change)[2]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top = softmax.top[half];
#pragma unroll
        for (int at = 0; at < N; at++) {
            top = fmaxf(top, fmaxf(scores[at][half * 2], scores[at][half * 2 + 1]));
        }
        // A row's lanes are four neighbours.
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
        // A row that has seen no key yet has weights of 0, not exp(-infinity + infinity).
        const float base = top == -INFINITY ? 0.0f : top;
        // Exactly 1 if the largest score is unchanged.
        change[half] = exp2_fast((softmax.top[half] - base) * scale);
        softmax.top[half] = top;
        const float shift = base * scale;
        float sum = 0.0f;
#pragma unroll
        for (int at = 0; at < N; at++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float& score = scores[at][half * 2 + i];
                score = exp2_fast(score * scale - shift);
                sum += score;
            }
        }
        softmax.sum[half] = softmax.sum[half] * change[half] + sum;
    }
}

/// Rescales earlier sums after a larger score.
template <int N>
static __device__ __forceinline__ void rescale(float (&sums)[N][4], const float (&change)[2]) {
    // Most tiles bring no larger score, and multiplying by 1 changes no bit.
    if (__any_sync(ALL_LANES, change[0] != 1.0f || change[1] != 1.0f)) {
#pragma unroll
        for (int at = 0; at < N; at++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                sums[at][i] *= change[i / 2];
            }
        }
    }
}

/// Divides by the sums of weights and writes a warp's rows.
template <typename T, int SIZE>
static __device__ __forceinline__ void write_rows(
    const float (&sums)[SIZE / 8][4], const Softmax& softmax, T* out, long long width, int rows, int size) {
    const int lane = lane_of_warp();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = softmax.sum[half];
        sum += __shfl_xor_sync(ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(ALL_LANES, sum, 2);
        const float scale = reciprocal_fast(sum);
        const int row = lane / 4 + half * 8;
#pragma unroll
        for (int at = 0; at < SIZE / 8; at++) {
            if (row < rows && at * 8 < size) {
                const unsigned both = pack<T>(sums[at][half * 2] * scale, sums[at][half * 2 + 1] * scale);
                *reinterpret_cast<unsigned*>(out + row * width + at * 8 + lane % 4 * 2) = both;
            }
        }
    }
}

/// This warp's rows of a block in a turn.
struct Part {
    /// Rows of the block before them.
    int before;
    /// At most 16; 0 or less if the block has none for this warp.
    int rows;
    /// Position of the first.
    int first;
};

static __device__ __forceinline__ Part part_of(const Block& block, int turn) {
    // Broadcast from one lane, so that the compiler knows that it is the same in all.
    const int warp = __shfl_sync(ALL_LANES, static_cast<int>(threadIdx.x) / WARP, 0);
    const int before = (turn * WARPS + warp) * WARP_ROWS;
    return {before, min(WARP_ROWS, block.rows - before), block.position + before};
}

/// A warp's state for its rows, for each turn.
template <int SIZE>
struct Rows {
    /// Position of the first row.
    int first[TURNS];
    /// No row sees keys from this position on.
    int end[TURNS];
    Softmax softmax[TURNS];
    float sums[TURNS][SIZE / 8][4];
};

/// What is the same for all tiles of a block.
struct Scene {
    Reach reach;
    /// No row of the block sees keys from this position on.
    int length;
    /// Number of keys in the sequence.
    int sequence;
    /// Of scores, for exponentials to base 2.
    float scale;
    bool windowed;
};

/// Processes a tile of keys that begins at position `begin`, for the rows of turns [FROM, TO).
template <typename T, int SIZE, bool BIASED, int FROM, int TO>
static __device__ __forceinline__ void take_tile(
    unsigned keys, unsigned queries, int begin, const Attention& what, const Scene& scene, Rows<SIZE>& rows) {
    constexpr int KEYS = Tiles<SIZE>::KEYS;
    float scores[TURNS][KEYS / 8][4] = {};
    multiply_keys<T, SIZE, FROM, TO>(keys, queries, scores);
#pragma unroll
    for (int turn = FROM; turn < TO; turn++) {
        if (BIASED) {
            add_bias(scores[turn], what, 1.44269504f / scene.scale, rows.first[turn], begin, scene.sequence);
        }
        // All rows see the keys before this, if there is no window.
        const int whole = scene.windowed ? 0 : min(scene.length, rows.first[turn] + scene.reach.behind + 1);
        if (begin + KEYS > whole) {
            hide(scores[turn], scene.reach, rows.first[turn], begin, scene.length);
        }
        float change[2];
        weigh(scores[turn], rows.softmax[turn], scene.scale, change);
        rescale(rows.sums[turn], change);
    }
    multiply_values<T, SIZE, FROM, TO>(keys + Place<SIZE>::VALUES, scores, rows.sums);
}

template <typename T, int SIZE, bool BIASED>
static __device__ __forceinline__ void attend(const T* qkv, const Attention& what, T* out) {
    constexpr int KEYS = Tiles<SIZE>::KEYS;
    const Block block = what.blocks[block_of_grid(what)];
    const Reach reach = reach_of(what);
    const int size = what.size, to_values = what.kv_heads * size;
    const int kv_offset = head_of_grid(what) / (what.heads / what.kv_heads) * size;
    const unsigned shared = shared_address(shared_memory());

    const Seen needed = seen_by_any(reach, block.position, block.position + block.rows - 1, block.length);
    const int first_tile = needed.first / KEYS, length = needed.end;
    const Own<T> own = own_of(qkv, what);
    const T* first_query = qkv + static_cast<long long>(block.row) * what.row_width + head_of_grid(what) * size;
    start_queries<T, SIZE>(shared, first_query, what.row_width, block.rows, size);
    begin_walks<T, SIZE>(Walk{what.spans + block.first_span, 0, kv_offset}, first_tile, length, own);
    __syncthreads();
    start_tile<T, SIZE>(shared, first_tile, size, to_values);

    const float scale = 1.44269504f * reciprocal_root_fast(static_cast<float>(size));
    const Scene scene = {reach, length, block.length, scale, what.mask >= 2};
    Rows<SIZE> rows = {};
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const Part part = part_of(block, turn);
        rows.first[turn] = part.first;
        rows.end[turn] = part.rows > 0 ? min(length, part.first + part.rows + reach.behind) : 0;
        rows.softmax[turn] = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    }
    const unsigned queries = shared + Place<SIZE>::QUERIES + part_of(block, 0).before * Tiles<SIZE>::STRIDE * 2;
    for (int tile = first_tile; tile * KEYS < length; tile++) {
        // This tile has arrived, and all threads are done with the previous one, whose memory is
        // reused now.
        wait_for_copies<0>();
        __syncthreads();
        if ((tile + 1) * KEYS < length) {
            start_tile<T, SIZE>(shared, tile + 1, size, to_values);
            note_addresses<T, SIZE>(tile + 2, length, own);
        }
        const int begin = tile * KEYS;
        const unsigned keys = shared + tile % 2 * Place<SIZE>::TILE;
        const bool lower = begin < rows.end[0], upper = begin < rows.end[1];
        if (lower && upper) {
            take_tile<T, SIZE, BIASED, 0, 2>(keys, queries, begin, what, scene, rows);
        } else if (lower) {
            take_tile<T, SIZE, BIASED, 0, 1>(keys, queries, begin, what, scene, rows);
        } else if (upper) {
            take_tile<T, SIZE, BIASED, 1, 2>(keys, queries, begin, what, scene, rows);
        }
    }
    // Read and computed again, so that they hold no registers during the loop.
    const Block same = what.blocks[block_of_grid(what)];
    const int width = what.heads * size;
#pragma unroll
    for (int turn = 0; turn < TURNS; turn++) {
        const Part part = part_of(same, turn);
        if (part.rows > 0) {
            const long long row = static_cast<long long>(same.row) + part.before;
            T* to = out + row * width + head_of_grid(what) * size;
            write_rows<T, SIZE>(rows.sums[turn], rows.softmax[turn], to, width, part.rows, size);
        }
    }
}

#define FOR_SIZE(T, NAME, SIZE)                                                                                      \
    extern "C" __global__ void __launch_bounds__(THREADS, Tiles<SIZE>::BLOCKS)                                       \
        attention_##NAME##_##SIZE(const T* qkv, const Block* blocks, const Span* spans, int row_width,               \
                                  int heads, int kv_heads, int size, int mask, int window, T* out) {                 \
        const Attention what = {blocks, spans, row_width, heads, kv_heads, size, mask, window, nullptr, 0};          \
        attend<T, SIZE, false>(qkv, what, out);                                                                      \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, Tiles<SIZE>::BLOCKS)                                       \
        attention_bias_##NAME##_##SIZE(const T* qkv, const Block* blocks, const Span* spans, int row_width,          \
                                       int heads, int kv_heads, int size, int mask, int window,                      \
                                       const float* bias, int bias_reach, T* out) {                                  \
        const Attention what = {blocks, spans, row_width, heads, kv_heads, size, mask, window, bias, bias_reach};    \
        attend<T, SIZE, true>(qkv, what, out);                                                                       \
    }
#define FOR_TYPE(T, NAME)                                                                                            \
    FOR_SIZE(T, NAME, 32)                                                                                            \
    FOR_SIZE(T, NAME, 64)                                                                                            \
    FOR_SIZE(T, NAME, 80)                                                                                            \
    FOR_SIZE(T, NAME, 96)                                                                                            \
    FOR_SIZE(T, NAME, 128)

FOR_TYPE(bf16, bf16)
FOR_TYPE(f16, f16)
#undef FOR_TYPE
#undef FOR_SIZE
