//! Instruction sets as proof: a token exists only if this CPU can run its instructions.
//!
//! Every kernel is written once, generic over [`Simd`], and computes on vectors of 16 numbers on
//! every instruction set, with fused multiply-adds in the same order. So results have the same
//! bits on all of them.
//! Must not know: which kernels exist.

use std::sync::OnceLock;

use super::portable::Portable;
use super::simd::Simd;
#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512};

/// A computation that runs on any instruction set.
///
/// Implementations mark `run` and all it calls `#[inline(always)]`: only code inlined into the
/// instruction set's entry function is compiled with its instructions.
pub trait Kernel {
    /// What it computes.
    type Output;
    /// Computes it with the instructions of `simd`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set that this CPU has.
#[derive(Debug, Clone, Copy)]
pub enum Isa {
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Whatever the compiler makes of plain Rust: NEON on 64-bit Arm. On an x86 CPU without FMA it
    /// is correct but slow.
    Portable(Portable),
}

impl Isa {
    /// All that this CPU has, best first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx512::new().map(Self::Avx512));
            all.extend(Avx2::new().map(Self::Avx2));
        }
        all.push(Self::Portable(Portable));
        all
    }

    /// The one in use: the best, unless `PROXIMA_ISA` names another that this CPU has.
    ///
    /// # Panics
    /// If `PROXIMA_ISA` names one that this CPU lacks: it is a knob for tests, never ignored.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let Some(forced) = crate::knobs::forced_isa() else { return Self::all()[0] };
            let found = Self::all().into_iter().find(|isa| isa.name() == forced);
            found.unwrap_or_else(|| panic!("PROXIMA_ISA={forced}: this CPU does not have it"))
        })
    }

    /// `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            Self::Portable(_) => "portable",
        }
    }

    /// Rows of the largest product tile.
    pub fn tile_rows(self) -> usize {
        struct TileRows;
        impl Kernel for TileRows {
            type Output = usize;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                S::TILE_ROWS
            }
        }
        self.run(TileRows)
    }

    /// Runs a kernel with this instruction set.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.enter(kernel),
            Self::Portable(simd) => kernel.run(simd),
        }
    }
}
