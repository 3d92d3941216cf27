// The machine side of the emulator: launches, and the contexts that it switches between.
// Must not know: any one kernel.
#pragma once

#include <cstddef>
#include <cstdint>

#if !(defined(__x86_64__) && defined(__linux__))
#include <ucontext.h>
#endif

namespace emulator {

/// A kernel with its arguments as cuLaunchKernel takes them: a pointer to each.
using Kernel = void (*)(void** arguments);

struct Launch {
    unsigned grid[3];
    /// Threads per block, which has one dimension.
    unsigned block;
    size_t shared_bytes;
    /// Determines the order in which warps and lanes run.
    uint64_t seed;
};

/// Runs all blocks; on failure, writes why and returns false.
bool run(Kernel kernel, const Launch& launch, void** arguments, char* message, size_t message_bytes);

/// A suspended fiber: its registers, or where they are on its stack.
struct Context {
#if defined(__x86_64__) && defined(__linux__)
    void* stack;
#else
    ucontext_t registers;
#endif
};

/// Makes a context that starts in `entry`, which never returns.
void start_context(Context& context, unsigned char* stack, size_t bytes, void (*entry)());

/// Suspends one context and resumes another.
void switch_context(Context& from, Context& to);

}  // namespace emulator
