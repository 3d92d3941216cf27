//! AMX: whether this process may use its tiles.

use super::avx512::Avx512;
use super::avx512_bf16::Avx512Bf16;
use super::simd::SimdOp;

/// Proof that this CPU has AMX-BF16 and AMX-INT8 in addition to AVX512-BF16, and that the operating
/// system saves their state.
#[derive(Debug, Clone, Copy)]
pub struct Amx(Avx512Bf16);

impl Amx {
    /// The token, if the CPU has these instructions and the operating system allows their use.
    pub fn new() -> Option<Self> {
        let simd = Avx512Bf16::new()?;
        (cpu_has_tiles() && system_keeps_tiles()).then_some(Self(simd))
    }

    /// The token without the check for AMX, for tests that emulate the instructions.
    ///
    /// # Safety
    /// AMX instructions are available or emulated.
    pub unsafe fn assumed() -> Option<Self> {
        Avx512Bf16::new().map(Self)
    }

    /// The base instruction set, for everything but GEMM.
    pub fn base(self) -> Avx512 {
        self.0.base()
    }

    /// AVX512-BF16, for conversions.
    pub(in crate::cpu) fn simd(self) -> Avx512Bf16 {
        self.0
    }

    /// Runs a kernel compiled for the base instruction set.
    pub fn enter<K: SimdOp>(self, kernel: K) -> K::Output {
        self.base().enter(kernel)
    }
}

/// Checks CPUID for AMX-TILE, AMX-BF16 and AMX-INT8, and XCR0 for tile configuration and data.
fn cpu_has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    const STATE: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    fn state() -> u64 {
        // SAFETY: the caller checked that the CPU has XSAVE.
        unsafe { _xgetbv(0) }
    }
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: OSXSAVE, checked above, says that the system uses XSAVE.
    let state = unsafe { state() };
    __cpuid_count(7, 0).edx & TILES == TILES && state & STATE == STATE
}

/// Requests permission to use tile data, which Linux grants per process
/// (`arch_prctl(ARCH_REQ_XCOMP_PERM)`).
#[cfg(target_os = "linux")]
fn system_keeps_tiles() -> bool {
    const REQUEST_PERMISSION: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call takes two integers and changes nothing else in the process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

/// AMX is used on Linux only.
#[cfg(not(target_os = "linux"))]
fn system_keeps_tiles() -> bool {
    false
}
