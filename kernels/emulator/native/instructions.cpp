// Warp-wide operations, with the register layouts that PTX documents, and IEEE half conversions.
// Must not know: how threads are run.
#include "emulated.h"

namespace emulator {

float half_to_float(uint16_t bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    const uint32_t exponent = (bits >> 10) & 31, fraction = bits & 0x3ff;
    uint32_t wide;
    if (exponent == 31) {
        wide = sign | 0x7f800000 | fraction << 13;
    } else if (exponent == 0) {
        const float small = static_cast<float>(fraction) * 0x1p-24f;
        std::memcpy(&wide, &small, sizeof wide);
        wide |= sign;
    } else {
        wide = sign | (exponent + 112) << 23 | fraction << 13;
    }
    float number;
    std::memcpy(&number, &wide, sizeof number);
    return number;
}

uint16_t float_to_half(float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) {
        return 0x7fff;
    }
    // From halfway between the largest half and the next value that there would be, rounds to
    // infinity.
    if (magnitude >= 0x477ff000) {
        return static_cast<uint16_t>(sign | 0x7c00);
    }
    if (magnitude < 0x38800000) {
        float positive;
        std::memcpy(&positive, &magnitude, sizeof positive);
        // Adding 0.5 rounds to a multiple of 2^-24, the spacing of small halves, in the addition's
        // mode.
        const float shifted = positive + 0.5f;
        uint32_t small;
        std::memcpy(&small, &shifted, sizeof small);
        return static_cast<uint16_t>(sign | (small - 0x3f000000));
    }
    const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

void nothing(void* const*) {}

void shuffle(void* const* lanes) {
    for (int lane = 0; lane < 32; lane++) {
        auto* mine = static_cast<ShuffleOf*>(lanes[lane]);
        mine->result = static_cast<const ShuffleOf*>(lanes[mine->lane & 31])->number;
    }
}

void ballot(void* const* lanes) {
    uint64_t set = 0;
    for (int lane = 0; lane < 32; lane++) {
        set |= (static_cast<const ShuffleOf*>(lanes[lane])->number & 1) << lane;
    }
    for (int lane = 0; lane < 32; lane++) {
        static_cast<ShuffleOf*>(lanes[lane])->result = set;
    }
}

static void load_matrices_of(void* const* lanes, bool transposed) {
    for (int matrix = 0; matrix < 4; matrix++) {
        uint16_t numbers[8][8];
        for (int row = 0; row < 8; row++) {
            const unsigned address = static_cast<const MatricesOf*>(lanes[8 * matrix + row])->row;
            std::memcpy(numbers[row], shared_16(address), 16);
        }
        for (int lane = 0; lane < 32; lane++) {
            const int row = lane / 4, column = lane % 4 * 2;
            const uint16_t low = transposed ? numbers[column][row] : numbers[row][column];
            const uint16_t high = transposed ? numbers[column + 1][row] : numbers[row][column + 1];
            static_cast<MatricesOf*>(lanes[lane])->to[matrix] = low | static_cast<unsigned>(high) << 16;
        }
    }
}

void matrices(void* const* lanes) {
    load_matrices_of(lanes, false);
}

void matrices_transposed(void* const* lanes) {
    load_matrices_of(lanes, true);
}

template <float (*WIDEN)(uint16_t)>
static void multiply(void* const* lanes) {
    float left[16][16], right[16][8];
    for (int lane = 0; lane < 32; lane++) {
        const auto* mine = static_cast<const ProductOf*>(lanes[lane]);
        const int group = lane / 4, pair = lane % 4 * 2;
        for (int half = 0; half < 2; half++) {
            for (int part = 0; part < 4; part++) {
                const auto bits = static_cast<uint16_t>(mine->left[part] >> (16 * half));
                left[group + part % 2 * 8][pair + half + part / 2 * 8] = WIDEN(bits);
            }
            for (int part = 0; part < 2; part++) {
                const auto bits = static_cast<uint16_t>(mine->right[part] >> (16 * half));
                right[pair + half + part * 8][group] = WIDEN(bits);
            }
        }
    }
    for (int row = 0; row < 16; row++) {
        float sums[8];
        for (int column = 0; column < 8; column++) {
            const auto* owner = static_cast<const ProductOf*>(lanes[row % 8 * 4 + column / 2]);
            sums[column] = owner->sums[column % 2 + row / 8 * 2];
        }
        for (int depth = 0; depth < 16; depth++) {
            for (int column = 0; column < 8; column++) {
                sums[column] += left[row][depth] * right[depth][column];
            }
        }
        for (int column = 0; column < 8; column++) {
            auto* owner = static_cast<ProductOf*>(lanes[row % 8 * 4 + column / 2]);
            owner->sums[column % 2 + row / 8 * 2] = sums[column];
        }
    }
}

static float widened_bf16(uint16_t bits) {
    return __bfloat162float({bits});
}

void product_bf16(void* const* lanes) {
    multiply<widened_bf16>(lanes);
}

void product_f16(void* const* lanes) {
    multiply<half_to_float>(lanes);
}

}  // namespace emulator
