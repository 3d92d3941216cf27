// The machine's side of the emulator: launches, and the contexts between which it switches.
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
    /// Threads of a block, which has one dimension.
    unsigned block;
    size_t shared_bytes;
    /// Of the order in which warps and lanes run.
    uint64_t seed;
};

/// Runs all blocks; if that fails, says why.
bool run(Kernel kernel, const Launch& launch, void** arguments, char* message, size_t message_bytes);

/// Where a fiber stands: its registers, or where they are on its stack.
struct Context {
#if defined(__x86_64__) && defined(__linux__)
    void* stack;
#else
    ucontext_t registers;
#endif
};

/// Makes a context that begins in `entry`, which never returns.
void start_context(Context& context, unsigned char* stack, size_t bytes, void (*entry)());

/// Leaves a context and goes on with another.
void switch_context(Context& from, Context& to);

}  // namespace emulator
