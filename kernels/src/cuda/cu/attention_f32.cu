// Attention in float32, streaming over tiles of keys: grid = blocks * heads, block = 128. A block
// has at most 16 query rows, 4 per warp. Heads of any size up to 256.
//
// Dynamic shared memory is 4*(80*stride + 512) bytes, where stride is 4*(ceil(size/4) | 1): 44288
// at size 128 and 85248 at 256.
//
// A row's result depends on its sequence alone, as in attention.cu, which is for 16-bit types.
// Must not know: layers, where keys come from.
#include "attention.cuh"

namespace plain {

constexpr int WARPS = 4;
/// Query rows per warp.
constexpr int ROWS = 4;
/// Keys per tile: one per lane.
constexpr int KEYS = WARP;
/// Columns of a head that a lane sums.
constexpr int COLUMNS = 256 / WARP;

/// A block's shared memory.
struct Shared {
    /// Elements from row to row: an odd number of 16-byte pieces, so that lanes read from different
    /// banks.
    int stride;
    float* keys;
    float* values;
    float* queries;
    /// This warp's weights, ROWS per key.
    float* weights;

    static __device__ __forceinline__ Shared of_block(int size) {
        const int stride = ((size + 3) / 4 | 1) * 4;
        float* memory = reinterpret_cast<float*>(shared_memory());
        float* queries = memory + 2 * KEYS * stride;
        float* weights = queries + WARPS * ROWS * stride + static_cast<int>(threadIdx.x) / WARP * (KEYS * ROWS);
        return {stride, memory, memory + KEYS * stride, queries, weights};
    }
};

/// Copies a row's head with one warp, padded with zeros; only zeros if `from` is null.
static __device__ __forceinline__ void copy_head(const float* from, int size, int stride, float* to) {
    for (int column = lane_of_warp(); column < stride; column += WARP) {
        to[column] = from != nullptr && column < size ? from[column] : 0.0f;
    }
}

/// Copies the keys and values of a tile; zeros from position `end` on.
static __device__ __forceinline__ void load_tile(
    const Shared& shared, Walk& walk, int begin, int end, const Attention& what, const Own<float>& own) {
    for (int key = static_cast<int>(threadIdx.x) / WARP; key < KEYS; key += WARPS) {
        const float* from = nullptr;
        if (begin + key < end) {
            from = walk.key_at<float>(begin + key, own);
        }
        const float* value = from == nullptr ? nullptr : from + what.kv_heads * what.size;
        copy_head(from, what.size, shared.stride, shared.keys + key * shared.stride);
        copy_head(value, what.size, shared.stride, shared.values + key * shared.stride);
    }
}

/// Multiplies a warp's queries with this lane's key.
static __device__ __forceinline__ void multiply_keys(const Shared& shared, int size, float (&scores)[ROWS]) {
    const float* key = shared.keys + lane_of_warp() * shared.stride;
    const float* queries = shared.queries + static_cast<int>(threadIdx.x) / WARP * ROWS * shared.stride;
    for (int column = 0; column < size; column += 4) {
        float right[4];
        load<4>(key + column, right);
#pragma unroll
        for (int row = 0; row < ROWS; row++) {
            float left[4];
            load<4>(queries + row * shared.stride + column, left);
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[row] += left[i] * right[i];
            }
        }
    }
}

/// A lane's state for the rows of its warp.
struct Rows {
    /// The largest score so far.
    float top[ROWS];
    /// The sum of this lane's weights, relative to `top`.
    float sum[ROWS];
    /// Weighted sums of values: columns lane, lane+32, ...
    float values[ROWS][COLUMNS];
};

/// Turns this lane's scores into weights relative to the largest score so far, and rescales earlier
/// sums.
static __device__ __forceinline__ void weigh(Rows& rows, float (&scores)[ROWS]) {
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        float top = fmaxf(rows.top[row], scores[row]);
#pragma unroll
        for (int distance = WARP / 2; distance > 0; distance /= 2) {
            top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, distance));
        }
        // A row that has seen no key yet has weights of 0, not exp(-infinity + infinity).
        const float base = top == -INFINITY ? 0.0f : top;
        const float change = expf(rows.top[row] - base);
        rows.top[row] = top;
        scores[row] = expf(scores[row] - base);
        rows.sum[row] = rows.sum[row] * change + scores[row];
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            rows.values[row][i] *= change;
        }
    }
}

/// Adds the products of a warp's weights and the tile's values.
static __device__ __forceinline__ void multiply_values(
    const Shared& shared, int size, const float (&weights)[ROWS], Rows& rows) {
    const int lane = lane_of_warp();
    // All lanes have read the previous weights.
    __syncwarp();
    store<ROWS>(shared.weights + lane * ROWS, weights);
    __syncwarp();
    for (int key = 0; key < KEYS; key++) {
        float left[ROWS];
        load<ROWS>(shared.weights + key * ROWS, left);
        const float* value = shared.values + key * shared.stride + lane;
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            if (lane + i * WARP < size) {
                const float right = value[i * WARP];
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    rows.values[row][i] += left[row] * right;
                }
            }
        }
    }
}

/// Divides by the sums of weights and writes `count` rows of a warp.
static __device__ __forceinline__ void write_rows(const Rows& rows, int count, int size, long long width, float* out) {
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const float scale = 1.0f / warp_sum(rows.sum[row]);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            const int column = lane_of_warp() + i * WARP;
            if (row < count && column < size) {
                out[row * width + column] = rows.values[row][i] * scale;
            }
        }
    }
}

/// The bias by token of the query and the key at these positions of the sequence that begins at
/// `sequence_row` of the batch.
static __device__ __forceinline__ float token_bias(const Attention& what, int sequence_row, int query, int key) {
    const int of_query = static_cast<int>(what.buckets[what.bias_reach + key - query]);
    const int of_key = static_cast<int>(what.buckets[what.bias_reach + query - key]);
    const long long of_head = static_cast<long long>(head_of_grid(what)) * what.batch_rows + sequence_row;
    const long long of_keys = of_head + static_cast<long long>(what.heads) * what.batch_rows;
    return what.terms[(of_head + query) * what.bucket_count + of_query]
        + what.terms[(of_keys + key) * what.bucket_count + of_key];
}

/// Scales a tile's scores, from position `begin` on, adds the biases if there are any, and masks
/// those of keys that a row does not see.
template <Bias BIAS>
static __device__ __forceinline__ void finish_scores(
    float (&scores)[ROWS], const Attention& what, const Block& block, int first, int begin) {
    // Of a bias by token, the product of query and key is one term of three.
    const int terms = BIAS == Bias::TOKENS ? 3 : 1;
    const float scale = 1.0f / sqrtf(static_cast<float>(terms * what.size));
    const Reach reach = reach_of(what);
    const int length = block.length;
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        const Seen seen = seen_by_any(reach, first + row, first + row, length);
        const int key = begin + lane_of_warp();
        const bool sees = key >= seen.first && key < seen.end;
        scores[row] = sees ? scores[row] * scale : -INFINITY;
        // Rows after a block's last one may lie after the sequence's end, too.
        const int query = min(first + row, length - 1);
        if (BIAS == Bias::TABLE && sees) {
            scores[row] += biases_of(what, head_of_grid(what), query)[key];
        }
        if (BIAS == Bias::TOKENS && sees) {
            scores[row] += token_bias(what, block.row - block.position, query, key);
        }
    }
}

template <Bias BIAS>
static __device__ __forceinline__ void attend(const float* qkv, const Attention& what, float* out) {
    const Block block = what.blocks[block_of_grid(what)];
    const Reach reach = reach_of(what);
    const int size = what.size, head = head_of_grid(what);
    const int before = static_cast<int>(threadIdx.x) / WARP * ROWS;
    const int count = min(ROWS, block.rows - before), first = block.position + before;
    const int kv_head = head / (what.heads / what.kv_heads);
    const Shared shared = Shared::of_block(size);
    for (int row = before; row < before + ROWS; row++) {
        const long long at = (static_cast<long long>(block.row) + row) * what.row_width + head * size;
        copy_head(row < block.rows ? qkv + at : nullptr, size, shared.stride, shared.queries + row * shared.stride);
    }
    const Seen needed = seen_by_any(reach, block.position, block.position + block.rows - 1, block.length);
    const Seen seen = seen_by_any(reach, first, first + count - 1, block.length);
    const Own<float> own = own_of(qkv, what);
    Walk walk = {what.spans + block.first_span, 0, kv_head * size};
    Rows rows = {};
#pragma unroll
    for (int row = 0; row < ROWS; row++) {
        rows.top[row] = -INFINITY;
    }
    for (int begin = needed.first / KEYS * KEYS; begin < needed.end; begin += KEYS) {
        __syncthreads();
        load_tile(shared, walk, begin, needed.end, what, own);
        __syncthreads();
        if (count <= 0 || begin >= seen.end || begin + KEYS <= seen.first) {
            continue;
        }
        float scores[ROWS] = {};
        multiply_keys(shared, size, scores);
        finish_scores<BIAS>(scores, what, block, first, begin);
        weigh(rows, scores);
        multiply_values(shared, size, scores, rows);
    }
    if (count > 0) {
        const long long width = static_cast<long long>(what.heads) * size;
        write_rows(rows, count, size, width, out + (static_cast<long long>(block.row) + before) * width + head * size);
    }
}

}  // namespace plain

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_f32(const float* qkv, const Block* blocks, const Span* spans, int row_width, int heads,
                  int kv_heads, int size, int mask, int window, float* out) {
    const Attention what = {blocks, spans, row_width, heads, kv_heads, size, mask, window, nullptr, 0};
    plain::attend<Bias::NONE>(qkv, what, out);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_bias_f32(const float* qkv, const Block* blocks, const Span* spans, int row_width, int heads,
                       int kv_heads, int size, int mask, int window, const float* bias, int bias_reach,
                       float* out) {
    const Attention what = {blocks, spans, row_width, heads, kv_heads, size, mask, window, bias, bias_reach};
    plain::attend<Bias::TABLE>(qkv, what, out);
}

extern "C" __global__ void __launch_bounds__(128, 3)
    attention_tokens_f32(const float* qkv, const Block* blocks, const Span* spans, int row_width, int heads,
                         int kv_heads, int size, int mask, int window, const float* terms,
                         const unsigned int* buckets, int bucket_count, int reach, int batch_rows, float* out) {
    const Attention what = {blocks, spans,   row_width, heads, kv_heads, size,         mask,
                            window, nullptr, reach,     terms, buckets,  bucket_count, batch_rows};
    plain::attend<Bias::TOKENS>(qkv, what, out);
}
