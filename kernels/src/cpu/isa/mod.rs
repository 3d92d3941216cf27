//! Instruction sets as proof tokens: a token exists only if this CPU can run its instructions.
//!
//! Every kernel is written once, generic over [`simd::Simd`], and computes on vectors of 16
//! elements on every instruction set, with fused multiply-adds in the same order, so results have
//! the same bits on all of them. GEMMs are the exception: see `gemm/dispatch.rs`.
//! Must not know: which kernels exist.

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx2_vnni;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "x86_64")]
pub mod avx512_bf16;
pub mod math;
#[cfg(target_arch = "aarch64")]
pub mod neon;
#[cfg(target_arch = "aarch64")]
pub mod neon_dot;
pub mod portable;
pub mod simd;

use std::sync::OnceLock;

use simd::SimdOp;

/// Defines the enum of all tokens. Each row gives the name in `PROXIMA_ISA` and `/info`, and the
/// token's type: its `new` detects the instruction set, its `enter` runs a kernel compiled for it.
macro_rules! instruction_sets {
    ($($(#[$attribute:meta])* [$cfg:meta] $name:literal => $variant:ident($token:ty),)*) => {
        /// An instruction set that this CPU has.
        #[derive(Debug, Clone, Copy)]
        pub enum Isa {
            $($(#[$attribute])* #[cfg($cfg)] $variant($token),)*
        }

        impl Isa {
            /// All instruction sets that this CPU has, best first.
            pub fn all() -> Vec<Self> {
                let mut all = Vec::new();
                $(#[cfg($cfg)] all.extend(<$token>::new().map(Self::$variant));)*
                all
            }

            /// Its name in `PROXIMA_ISA`.
            pub fn name(self) -> &'static str {
                match self {
                    $(#[cfg($cfg)] Self::$variant(_) => $name,)*
                }
            }

            /// Runs a kernel with this instruction set.
            pub fn run<K: SimdOp>(self, kernel: K) -> K::Output {
                match self {
                    $(#[cfg($cfg)] Self::$variant(token) => token.enter(kernel),)*
                }
            }
        }
    };
}

instruction_sets! {
    /// AMX-BF16 and AMX-INT8 for GEMM, AVX-512 for everything else.
    [target_arch = "x86_64"] "amx" => Amx(amx::Amx),
    /// AVX512-BF16 and AVX512-VNNI for GEMM, AVX-512 for everything else.
    [target_arch = "x86_64"] "avx512_bf16" => Avx512Bf16(avx512_bf16::Avx512Bf16),
    /// AVX-512 F, BW, DQ and VL.
    [target_arch = "x86_64"] "avx512" => Avx512(avx512::Avx512),
    /// AVX-VNNI for int8 GEMM, AVX2 for everything else.
    [target_arch = "x86_64"] "avx2_vnni" => Avx2Vnni(avx2_vnni::Avx2Vnni),
    /// AVX2 with FMA and F16C.
    [target_arch = "x86_64"] "avx2" => Avx2(avx2::Avx2),
    /// FEAT_BF16 and FEAT_I8MM for GEMM, NEON for everything else.
    [target_arch = "aarch64"] "neon_bf16" => NeonDot(neon_dot::NeonDot),
    /// NEON of 64-bit Arm.
    [target_arch = "aarch64"] "neon" => Neon(neon::Neon),
    /// Plain Rust, vectorized by the compiler. Correct but slow on a CPU without FMA.
    [all()] "portable" => Portable(portable::Portable),
}

impl Isa {
    /// The instruction set in use: the best, unless `PROXIMA_ISA` names another that this CPU has.
    ///
    /// # Panics
    /// If `PROXIMA_ISA` names one that this CPU lacks: tests rely on it, so it is never ignored.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Isa> = OnceLock::new();
        *CURRENT.get_or_init(|| Self::chosen().unwrap_or_else(|problem| panic!("{problem}")))
    }

    /// As [`current`](Self::current).
    ///
    /// # Errors
    /// If `PROXIMA_ISA` names one that this CPU lacks, with those that it has.
    pub fn chosen() -> Result<Self, String> {
        let Some(forced) = crate::knobs::forced_isa() else { return Ok(Self::all()[0]) };
        let found = Self::all().into_iter().find(|isa| isa.name() == forced);
        found.ok_or_else(|| {
            let known: Vec<&str> = Self::all().into_iter().map(Self::name).collect();
            format!("PROXIMA_ISA={forced}: this CPU does not have it; it has {}", known.join(", "))
        })
    }
}
