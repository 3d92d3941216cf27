// Switching between fibers: a few instructions on x86-64 Linux, where tests mostly run; elsewhere
// ucontext, which makes a system call for the signal mask each time.
// Must not know: what fibers do.
#include "machine.h"

#include <cstring>

namespace emulator {

#if defined(__x86_64__) && defined(__linux__)

// Pushes the callee-saved registers of the System V ABI, and pops the other fiber's from its stack.
asm(R"(
.text
.p2align 4
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    retq
.size emulator_switch, .-emulator_switch
)");

extern "C" void emulator_switch(void** from, void** to) __asm__("emulator_switch");

void start_context(Context& context, unsigned char* stack, size_t bytes, void (*entry)()) {
    // Six registers, the entry point to return to, and a slot for a return address, so that the
    // stack is aligned as after a call.
    auto** top = reinterpret_cast<void**>(stack + bytes) - 8;
    std::memset(static_cast<void*>(top), 0, 8 * sizeof *top);
    std::memcpy(top + 6, &entry, sizeof entry);
    context.stack = top;
}

void switch_context(Context& from, Context& to) {
    emulator_switch(&from.stack, &to.stack);
}

#else

void start_context(Context& context, unsigned char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context.registers);
    context.registers.uc_stack.ss_sp = stack;
    context.registers.uc_stack.ss_size = bytes;
    context.registers.uc_link = nullptr;
    makecontext(&context.registers, entry, 0);
}

void switch_context(Context& from, Context& to) {
    swapcontext(&from.registers, &to.registers);
}

#endif

}  // namespace emulator
