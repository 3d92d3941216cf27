// Runs the threads of a block as fibers, one block after another. Warps run in an order that is
// reshuffled at every barrier, each until it waits, and lanes in one that is reshuffled for each
// block: a missing barrier then shows.
// Must not know: any one kernel, what warp-wide operations compute.
#include "machine.h"

#include <sys/mman.h>

#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "emulated.h"

namespace emulator {
namespace {

constexpr int LANES = 32;
constexpr int WARPS_MAX = 32;
/// Stack size of a fiber.
constexpr size_t STACK = 128 << 10;
/// Bytes after shared memory that must stay unchanged.
constexpr size_t CANARY = 1024;

/// The copies that a thread started, in order, and where its committed groups end.
struct Copies {
    struct One {
        unsigned char* to;
        const void* from;
        bool wanted;
    };
    std::vector<One> started;
    std::vector<size_t> groups;
};

struct Warp;

struct Lane {
    Context context;
    Place place;
    Copies copies;
    Warp* warp;
    bool finished;
};

struct Warp {
    Lane lanes[LANES];
    void* brought[LANES];
    /// Lanes in the order in which they take turns, and the index of the current one.
    int order[LANES];
    int turn;
    int arrived;
    int live;
    Work work;
};

struct Machine {
    std::vector<std::unique_ptr<Warp>> warps;
    unsigned char* stacks = nullptr;
    std::vector<unsigned char> memory;
    unsigned char* shared = nullptr;
    size_t shared_bytes = 0;
    Context scheduler;
    Lane* running = nullptr;
    Kernel kernel = nullptr;
    void** arguments = nullptr;
    uint64_t random = 0;
    char message[256] = {};
    bool failed = false;

    ~Machine() {
        if (stacks != nullptr) {
            munmap(stacks, STACK * LANES * WARPS_MAX);
        }
    }
};

thread_local Machine machine;

/// A random number below `bound` (xorshift, Marsaglia, 2003).
unsigned random_below(unsigned bound) {
    uint64_t& state = machine.random;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<unsigned>((state >> 32) % bound);
}

void shuffle_order(int* order, int count) {
    for (int at = 0; at < count; at++) {
        order[at] = at;
    }
    for (int left = count; left > 1; left--) {
        std::swap(order[left - 1], order[random_below(static_cast<unsigned>(left))]);
    }
}

/// Continues with the warp's next lane.
void run_next_lane(Warp& warp) {
    Lane* from = machine.running;
    do {
        warp.turn = (warp.turn + 1) % LANES;
    } while (warp.lanes[warp.order[warp.turn]].finished);
    Lane* to = &warp.lanes[warp.order[warp.turn]];
    if (to != from) {
        machine.running = to;
        switch_context(from->context, to->context);
    }
}

void leave_to_scheduler() {
    switch_context(machine.running->context, machine.scheduler);
}

void at_barrier(void* const*) {}

void fiber_main() {
    machine.kernel(machine.arguments);
    Lane& lane = *machine.running;
    Warp& warp = *lane.warp;
    if (warp.arrived > 0) {
        fail("a lane ends while others of its warp wait for it");
    }
    lane.finished = true;
    if (--warp.live > 0) {
        run_next_lane(warp);
    }
    leave_to_scheduler();
}

void prepare_warp(Warp& warp, int index, const Place& place) {
    warp.arrived = 0;
    warp.live = LANES;
    warp.turn = 0;
    shuffle_order(warp.order, LANES);
    for (int at = 0; at < LANES; at++) {
        Lane& lane = warp.lanes[at];
        const int thread = index * LANES + at;
        lane.place = place;
        lane.place.thread = {static_cast<unsigned>(thread), 0, 0};
        lane.copies.started.clear();
        lane.copies.groups.clear();
        lane.warp = &warp;
        lane.finished = false;
        start_context(lane.context, machine.stacks + STACK * static_cast<size_t>(thread), STACK, fiber_main);
    }
}

/// Runs the block at `place`; false if it failed.
bool run_block(int warps, const Place& place) {
    std::memset(machine.shared, 0xff, machine.shared_bytes + CANARY);
    for (int index = 0; index < warps; index++) {
        prepare_warp(*machine.warps[static_cast<size_t>(index)], index, place);
    }
    for (int live = 1; live > 0;) {
        int order[WARPS_MAX];
        shuffle_order(order, warps);
        live = 0;
        for (int at = 0; at < warps; at++) {
            Warp& warp = *machine.warps[static_cast<size_t>(order[at])];
            if (warp.live == 0) {
                continue;
            }
            machine.running = &warp.lanes[warp.order[warp.turn]];
            switch_context(machine.scheduler, machine.running->context);
            if (machine.failed) {
                return false;
            }
            live += warp.live;
        }
    }
    for (size_t at = 0; at < CANARY; at++) {
        if (machine.shared[machine.shared_bytes + at] != 0xff) {
            std::snprintf(machine.message, sizeof machine.message, "shared memory was written past its end");
            return false;
        }
    }
    return true;
}

/// Prepares memory for a launch; false if there is none.
bool prepare(unsigned block, size_t shared_bytes) {
    while (machine.warps.size() < block / LANES) {
        machine.warps.push_back(std::make_unique<Warp>());
    }
    if (machine.stacks == nullptr) {
        const int kind = MAP_PRIVATE | MAP_ANONYMOUS;
        void* stacks = mmap(nullptr, STACK * LANES * WARPS_MAX, PROT_READ | PROT_WRITE, kind, -1, 0);
        if (stacks == MAP_FAILED) {
            return false;
        }
        machine.stacks = static_cast<unsigned char*>(stacks);
    }
    constexpr size_t ALIGNMENT = 256;
    machine.memory.resize(shared_bytes + CANARY + ALIGNMENT);
    const auto start = reinterpret_cast<uintptr_t>(machine.memory.data());
    machine.shared = machine.memory.data() + (ALIGNMENT - start % ALIGNMENT) % ALIGNMENT;
    machine.shared_bytes = shared_bytes;
    return true;
}

bool run_grid(const Launch& launch) {
    if (launch.block == 0 || launch.block % LANES != 0 || launch.block > LANES * WARPS_MAX) {
        std::snprintf(machine.message, sizeof machine.message, "a block is 1 to 32 whole warps");
        return false;
    }
    if (!prepare(launch.block, launch.shared_bytes)) {
        std::snprintf(machine.message, sizeof machine.message, "no memory for the threads of a block");
        return false;
    }
    Place place = {{0, 0, 0}, {0, 0, 0}, {launch.block, 1, 1}, {launch.grid[0], launch.grid[1], launch.grid[2]}};
    for (unsigned z = 0; z < launch.grid[2]; z++) {
        for (unsigned y = 0; y < launch.grid[1]; y++) {
            for (unsigned x = 0; x < launch.grid[0]; x++) {
                place.block = {x, y, z};
                if (!run_block(static_cast<int>(launch.block / LANES), place)) {
                    return false;
                }
            }
        }
    }
    return true;
}

}  // namespace

bool run(Kernel kernel, const Launch& launch, void** arguments, char* message, size_t message_bytes) {
    machine.kernel = kernel;
    machine.arguments = arguments;
    machine.random = launch.seed * 0x9e3779b97f4a7c15u | 1;
    machine.failed = false;
    machine.message[0] = 0;
    const bool worked = run_grid(launch);
    if (!worked) {
        std::snprintf(message, message_bytes, "%s", machine.message);
    }
    return worked;
}

const Place& place() {
    return machine.running->place;
}

unsigned char* shared() {
    return machine.shared;
}

void fail(const char* message) {
    const Index &block = machine.running->place.block, &thread = machine.running->place.thread;
    std::snprintf(machine.message, sizeof machine.message, "block (%u, %u, %u), thread %u: %s", block.x, block.y,
                  block.z, thread.x, message);
    machine.failed = true;
    // The block's fibers are never resumed.
    leave_to_scheduler();
    __builtin_unreachable();
}

void together(Work work, void* mine) {
    Lane& lane = *machine.running;
    Warp& warp = *lane.warp;
    if (warp.arrived > 0 && warp.work != work) {
        fail("lanes of a warp are at different instructions that need all of them");
    }
    if (warp.live != LANES && work != at_barrier) {
        fail("some lanes of the warp have ended before an instruction that needs all of them");
    }
    warp.work = work;
    warp.brought[lane.place.thread.x % LANES] = mine;
    if (++warp.arrived < warp.live) {
        run_next_lane(warp);
        return;
    }
    warp.arrived = 0;
    if (work == at_barrier) {
        leave_to_scheduler();
    } else {
        work(warp.brought);
    }
}

void block_barrier() {
    together(at_barrier, nullptr);
}

unsigned char* shared_16(unsigned address) {
    if (static_cast<size_t>(address) + 16 > machine.shared_bytes) {
        fail("an address is not in shared memory");
    }
    if (address % 16 != 0) {
        fail("an address in shared memory is not a multiple of 16 bytes");
    }
    return machine.shared + address;
}

void start_copy(unsigned address, const void* from, bool wanted) {
    unsigned char* to = shared_16(address);
    if (wanted && reinterpret_cast<uintptr_t>(from) % 16 != 0) {
        fail("a copy of 16 bytes from an address that is not a multiple of 16");
    }
    // Until the copy is waited for, neither the old nor the new contents may be relied on.
    std::memset(to, 0xff, 16);
    machine.running->copies.started.push_back({to, from, wanted});
}

void commit_copies() {
    Copies& copies = machine.running->copies;
    copies.groups.push_back(copies.started.size());
}

void wait_for_copies(int left) {
    Copies& copies = machine.running->copies;
    if (copies.groups.size() <= static_cast<size_t>(left)) {
        return;
    }
    const size_t groups = copies.groups.size() - static_cast<size_t>(left), end = copies.groups[groups - 1];
    for (size_t at = 0; at < end; at++) {
        const Copies::One& copy = copies.started[at];
        if (copy.wanted) {
            std::memcpy(copy.to, copy.from, 16);
        } else {
            std::memset(copy.to, 0, 16);
        }
    }
    copies.started.erase(copies.started.begin(), copies.started.begin() + static_cast<std::ptrdiff_t>(end));
    copies.groups.erase(copies.groups.begin(), copies.groups.begin() + static_cast<std::ptrdiff_t>(groups));
    for (size_t& group : copies.groups) {
        group -= end;
    }
}

}  // namespace emulator
