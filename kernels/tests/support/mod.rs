//! Shared by kernel tests: pseudo-random values, and every instruction set, emulated where the CPU
//! lacks it.
//!
//! Must not know: any one kernel.

use proxima_kernels::cpu::Isa;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[path = "../amx_emulator/mod.rs"]
mod amx_emulator;

/// Fixed pseudo-random values in -1..1.
pub fn random_values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(step).collect()
}

/// Every instruction set of this CPU, and AMX on CPUs that have everything else that it needs.
pub fn isas() -> Vec<Isa> {
    #[allow(unused_mut, reason = "only one kind of CPU has more")]
    let mut all = Isa::all();
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if !all.iter().any(|isa| matches!(isa, Isa::Amx(_))) {
        amx_emulator::install();
        // SAFETY: from here on, the instructions that the CPU lacks are emulated.
        let emulated = unsafe { proxima_kernels::cpu::isa::amx::Amx::assumed() };
        all.extend(emulated.map(Isa::Amx));
    }
    all
}
