//! Runs Intel AMX instructions in software on a CPU that lacks them, so that tests can execute the
//! machine code of AMX kernels everywhere. Where the CPU has AMX, the hardware runs them.
//! Must not know: the kernels under test, what they compute, candle.
//!
//! An AMX instruction on another CPU is an invalid opcode, which Linux reports as SIGILL. The
//! handler here reads the instruction at the interrupted RIP, applies it to a per-thread tile
//! state, and resumes the thread after it. Instructions with legacy prefixes (FS or GS segments,
//! 32-bit addresses) are not recognised.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

mod decode;
mod products;
mod tiles;

use std::cell::RefCell;
use std::io::Write;
use std::ptr;
use std::sync::Once;

use decode::{Instruction, decode};
use tiles::{Fault, Tiles};

/// The general-purpose registers of an interrupted thread, in machine-code order: RAX, RCX, RDX,
/// RBX, RSP, RBP, RSI, RDI, R8 to R15.
type Registers = [u64; 16];

// Constant and without a destructor: the handler's first access must not allocate or register.
thread_local! {
    static TILES: RefCell<Tiles> = const { RefCell::new(Tiles::INITIAL) };
}

/// Makes AMX instructions work in every thread of this process: on the CPU's own AMX if Linux
/// grants it, otherwise in software. Further calls have no effect.
///
/// # Panics
///
/// If emulation is needed and the CPU lacks FMA, or SIGILL cannot be handled.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if hardware_allowed() {
            return;
        }
        assert!(is_x86_feature_detected!("fma"), "the emulator of AMX multiplies with FMA");
        handle_illegal_instructions();
    });
}

/// Whether the CPU has all of AMX and Linux lets this process use it.
///
/// Without the permission, Linux answers tile instructions with SIGILL even on a CPU with AMX. So
/// it is not requested for a CPU with only part of AMX, and the emulator does everything.
fn hardware_allowed() -> bool {
    const LEAF_OF_FEATURES: u32 = 7;
    const BF16_TILE_INT8: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    #[allow(unused_unsafe, reason = "unsafe in Rust 1.90, the oldest supported, safe in 1.95")]
    // SAFETY: every 64-bit x86 CPU has CPUID.
    let features = unsafe { std::arch::x86_64::__cpuid_count(LEAF_OF_FEATURES, 0) };
    if features.edx & BF16_TILE_INT8 != BF16_TILE_INT8 {
        return false;
    }
    // SAFETY: this arch_prctl call takes two integers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 }
}

fn handle_illegal_instructions() {
    // SAFETY: a zeroed sigaction is valid (no flags, empty mask), and the handler has the signature
    // that SA_SIGINFO requires.
    let status = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_illegal_instruction as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGILL, &action, ptr::null_mut())
    };
    assert_eq!(status, 0, "SIGILL can be handled");
}

extern "C" fn on_illegal_instruction(
    signal: libc::c_int,
    _: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: with SA_SIGINFO, Linux passes the interrupted thread's context, exclusively ours
    // until this handler returns.
    let saved = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let at = saved[libc::REG_RIP as usize] as *const u8;
    // SAFETY: the CPU tried to run these bytes, and `decode` takes only as many as belong to the
    // instruction, so none is read beyond the mapped code.
    let code = (0..).map(|ahead| unsafe { at.add(ahead).read() });
    let Some((instruction, length)) = decode(code) else {
        // SAFETY: setting the default action has no preconditions. The instruction then runs
        // again and ends the process in the usual way.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    let next = at as u64 + length;
    let registers = in_order_of_numbers(saved);
    let done = TILES.with_borrow_mut(|tiles| execute(&instruction, tiles, &registers, next));
    match done {
        Ok(()) => saved[libc::REG_RIP as usize] = next as i64,
        Err(fault) => end(&instruction, &fault),
    }
}

fn in_order_of_numbers(saved: &[libc::greg_t; 23]) -> Registers {
    const PLACES: [libc::c_int; 16] = [
        libc::REG_RAX,
        libc::REG_RCX,
        libc::REG_RDX,
        libc::REG_RBX,
        libc::REG_RSP,
        libc::REG_RBP,
        libc::REG_RSI,
        libc::REG_RDI,
        libc::REG_R8,
        libc::REG_R9,
        libc::REG_R10,
        libc::REG_R11,
        libc::REG_R12,
        libc::REG_R13,
        libc::REG_R14,
        libc::REG_R15,
    ];
    PLACES.map(|place| saved[place as usize] as u64)
}

fn execute(
    instruction: &Instruction,
    tiles: &mut Tiles,
    registers: &Registers,
    next: u64,
) -> Result<(), Fault> {
    match instruction {
        Instruction::LoadConfiguration(from) => {
            let from = from.linear(registers, next) as *const [u8; 64];
            // SAFETY: these bytes are the instruction's operand, chosen by the program; if they are
            // not mapped, it ends with SIGSEGV here as it would on the hardware.
            tiles.configure(&unsafe { from.read_unaligned() })
        }
        Instruction::StoreConfiguration(to) => {
            let to = to.linear(registers, next) as *mut [u8; 64];
            // SAFETY: as for the load.
            unsafe { to.write_unaligned(tiles.configuration()) };
            Ok(())
        }
        Instruction::Release => {
            *tiles = Tiles::INITIAL;
            Ok(())
        }
        Instruction::Zero(tile) => tiles.zero(*tile),
        Instruction::Load(tile, from) => {
            let (start, stride) = from.start_and_stride(registers, next);
            // SAFETY: as above, the program is responsible for the operand.
            unsafe { tiles.load(*tile, start, stride) }
        }
        Instruction::Store(tile, to) => {
            let (start, stride) = to.start_and_stride(registers, next);
            // SAFETY: as above.
            unsafe { tiles.store(*tile, start, stride) }
        }
        Instruction::MicroKernel(product) => products::accumulate(tiles, product),
    }
}

/// Ends the process: where the hardware would raise an exception, the kernel under test is wrong.
fn end(instruction: &Instruction, fault: &Fault) -> ! {
    // Not eprintln!, which the test harness captures and an abort then loses. The result is
    // ignored: if stderr is closed, there is nowhere better to report it.
    let _ = writeln!(std::io::stderr(), "emulated AMX: {fault:?} by {instruction:?}");
    std::process::abort();
}
