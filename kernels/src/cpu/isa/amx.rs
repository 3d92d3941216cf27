//! AMX: whether this process can use its tiles.

use super::avx512::Avx512;
use super::avx512_bf16::Avx512Bf16;
use super::simd::SimdOp;

/// Proof that this CPU has AMX-BF16 and AMX-INT8 beside AVX512-BF16, and that the operating system
/// keeps their state.
#[derive(Debug, Clone, Copy)]
pub struct Amx(Avx512Bf16);

impl Amx {
    /// The token, if the CPU has these instructions and the operating system lets this process use
    /// them.
    pub fn new() -> Option<Self> {
        let simd = Avx512Bf16::new()?;
        (cpu_has_tiles() && system_keeps_tiles()).then_some(Self(simd))
    }

    /// The token without asking, for tests that emulate the instructions.
    ///
    /// # Safety
    /// AMX instructions run or are emulated.
    pub unsafe fn assumed() -> Option<Self> {
        Avx512Bf16::new().map(Self)
    }

    /// The instructions for all else.
    pub fn base(self) -> Avx512 {
        self.0.base()
    }

    /// AVX512-BF16, for conversions.
    pub(in crate::cpu) fn simd(self) -> Avx512Bf16 {
        self.0
    }

    /// Runs a kernel with the instructions for all else.
    pub fn enter<K: SimdOp>(self, kernel: K) -> K::Output {
        self.base().enter(kernel)
    }
}

/// CPUID: AMX-TILE, AMX-BF16 and AMX-INT8; XCR0: tile configuration and data.
fn cpu_has_tiles() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    const OSXSAVE: u32 = 1 << 27;
    const TILES: u32 = 1 << 22 | 1 << 24 | 1 << 25;
    const STATE: u64 = 1 << 17 | 1 << 18;
    #[target_feature(enable = "xsave")]
    fn state() -> u64 {
        // SAFETY: the CPU has XSAVE, which the caller checked.
        unsafe { _xgetbv(0) }
    }
    if __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: CPUID says that the system uses XSAVE.
    let state = unsafe { state() };
    __cpuid_count(7, 0).edx & TILES == TILES && state & STATE == STATE
}

/// Asks Linux, once a process, for the state of tiles (`arch_prctl(ARCH_REQ_XCOMP_PERM)`).
#[cfg(target_os = "linux")]
fn system_keeps_tiles() -> bool {
    const REQUEST_PERMISSION: libc::c_long = 0x1023;
    const TILE_DATA: libc::c_long = 18;
    // SAFETY: the call reads its two numbers and changes nothing else of the process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0 }
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn system_keeps_tiles() -> bool {
    false
}
