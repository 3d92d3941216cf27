// The kernels of proxima-kernels compiled for the CPU, by name, with their parameter types.
// Must not know: how threads are run.
#include <cstdio>
#include <cstring>
#include <utility>

#include "machine.h"

// One translation unit, so static functions of the same name and parameters in two files are an
// error here.
#include "attention.cu"
#include "attention_f32.cu"
#include "embedding.cu"
#include "epilogue.cu"
#include "faults.cu"
#include "gated.cu"
#include "norm.cu"
#include "pool.cu"
#include "rotary.cu"

namespace {

/// How the Rust side names a parameter's type: a letter, after * for what is written and & for what
/// is read.
template <typename P>
struct Letter;

#define LETTER(P, NAME)                          \
    template <>                                  \
    struct Letter<P> {                           \
        static constexpr char value = NAME;      \
    };
LETTER(int, 'i')
LETTER(long long, 'l')
LETTER(float, 'f')
LETTER(bf16, 'b')
LETTER(f16, 'h')
LETTER(unsigned, 'u')
LETTER(Block, 'B')
LETTER(Span, 'S')
#undef LETTER

template <typename P>
struct Named {
    static void write(char*& to) { *to++ = Letter<P>::value; }
};

template <typename P>
struct Named<P*> {
    static void write(char*& to) {
        *to++ = '*';
        *to++ = Letter<P>::value;
    }
};

template <typename P>
struct Named<const P*> {
    static void write(char*& to) {
        *to++ = '&';
        *to++ = Letter<P>::value;
    }
};

template <auto KERNEL>
struct Entry;

template <typename... P, void (*KERNEL)(P...)>
struct Entry<KERNEL> {
    static_assert(sizeof...(P) <= 15, "a signature has at most 31 letters");

    template <size_t... AT>
    static void call(void** arguments, std::index_sequence<AT...>) {
        KERNEL(*static_cast<P*>(arguments[AT])...);
    }

    static void run(void** arguments) { call(arguments, std::index_sequence_for<P...>{}); }

    static void signature(char* to) {
        (Named<P>::write(to), ...);
        *to = 0;
    }
};

struct Known {
    const char* name;
    emulator::Kernel run;
    void (*signature)(char* to);
};

#define KERNEL(NAME) {#NAME, Entry<NAME>::run, Entry<NAME>::signature},
#define TENSOR_CORES(NAME) KERNEL(NAME##_bf16) KERNEL(NAME##_f16)
#define EVERY_TYPE(NAME) KERNEL(NAME##_f32) TENSOR_CORES(NAME)
#define EVERY_SIZE(T) \
    KERNEL(attention_##T##_32) KERNEL(attention_##T##_64) KERNEL(attention_##T##_80) \
    KERNEL(attention_##T##_96) KERNEL(attention_##T##_128)

constexpr Known ALL[] = {
    EVERY_TYPE(rms_norm) EVERY_TYPE(add_rms_norm) EVERY_TYPE(layer_norm) EVERY_TYPE(rotary) EVERY_TYPE(rotary_wide) EVERY_TYPE(gated) EVERY_TYPE(epilogue)
    EVERY_TYPE(gather) EVERY_TYPE(gather_weighted) KERNEL(pool_f32)
    EVERY_SIZE(bf16) EVERY_SIZE(f16) KERNEL(attention_f32)
    EVERY_SIZE(bias_bf16) EVERY_SIZE(bias_f16) KERNEL(attention_bias_f32) KERNEL(attention_tokens_f32)
    KERNEL(fault_none) KERNEL(fault_no_barrier) KERNEL(fault_no_wait) KERNEL(fault_no_warp_barrier)
    KERNEL(fault_diverged) KERNEL(fault_left) KERNEL(fault_beyond)
};

const Known* find(const char* name) {
    for (const Known& known : ALL) {
        if (std::strcmp(known.name, name) == 0) {
            return &known;
        }
    }
    return nullptr;
}

}  // namespace

/// Writes a kernel's signature, at most 31 letters and a zero; false if there is no such kernel.
extern "C" bool proxima_emulator_signature(const char* name, char* to) {
    const Known* known = find(name);
    if (known != nullptr) {
        known->signature(to);
    }
    return known != nullptr;
}

/// Runs a kernel; on failure, writes why and returns false. The arguments match its signature.
extern "C" bool proxima_emulator_run(
    const char* name, const emulator::Launch* launch, void** arguments, char* message, size_t message_bytes) {
    const Known* known = find(name);
    if (known == nullptr) {
        std::snprintf(message, message_bytes, "there is no kernel %s", name);
        return false;
    }
    return emulator::run(known->run, *launch, arguments, message, message_bytes);
}
