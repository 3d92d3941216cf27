//! Which micro-kernel an instruction set uses for each arithmetic.
//!
//! float32 and int8 results have the same bits on all instruction sets. Those of bfloat16, and of
//! float32 split into bfloat16 parts, do not.
//! Must not know: what is multiplied.

use super::fma::{FmaBf16, FmaF16, FmaF32, InSteps, PlainInt8};
use super::micro_kernel::{Arithmetic, GemmOp, MicroKernel};
use super::pack_lhs::Packing;
#[cfg(target_arch = "x86_64")]
use super::{
    amx::{TileBf16, TileInt8, TileSplitBf16, TileSplitF32},
    avx2_int8::{PairsInt8, QuadsInt8 as QuadsVnni},
    avx512_bf16::{DotBf16, DotInt8},
};
#[cfg(target_arch = "aarch64")]
use super::{
    neon_dot::{PairsBf16, QuadsInt8},
    neon_fma::{NeonBf16, NeonF16, NeonF32},
};
use crate::cpu::isa::Isa;
#[cfg(target_arch = "x86_64")]
use crate::cpu::isa::avx2::Avx2;
#[cfg(target_arch = "aarch64")]
use crate::cpu::isa::neon::Neon;
use crate::cpu::isa::simd::{Simd, SimdOp};

impl Isa {
    /// What it supports besides int8 and float32 activations, which all instruction sets do.
    fn extra(self) -> &'static [Arithmetic] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => &[Arithmetic::Bf16, Arithmetic::SplitF32, Arithmetic::SplitBf16],
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => &[Arithmetic::Bf16],
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(_) => &[Arithmetic::Bf16],
            _ => &[],
        }
    }

    /// Whether it supports bfloat16 times bfloat16.
    pub fn multiplies_bf16(self) -> bool {
        self.extra().contains(&Arithmetic::Bf16)
    }

    /// Whether it has bfloat16 tiles, so fast that splitting float32 into bfloat16 parts pays off.
    pub fn multiplies_tiles(self) -> bool {
        self.extra().contains(&Arithmetic::SplitF32)
    }

    /// How activations are packed for this arithmetic.
    pub fn packing(self, arithmetic: Arithmetic) -> Packing {
        struct RowsPerPanel;
        impl GemmOp for RowsPerPanel {
            type Output = usize;
            #[inline(always)]
            fn run<S: Simd, P: MicroKernel>(self, _: S, _: P) -> usize {
                P::ROWS
            }
        }
        Packing { format: arithmetic.format(), panel_rows: self.run_gemm(arithmetic, RowsPerPanel) }
    }

    /// Runs a kernel with the micro-kernel of this arithmetic.
    ///
    /// # Panics
    /// If the instruction set does not support it: layers choose among those it does.
    pub fn run_gemm<K: GemmOp>(self, arithmetic: Arithmetic, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(amx) => match arithmetic {
                Arithmetic::Bf16 => amx.enter_gemm(TileBf16, kernel),
                Arithmetic::Int8 => amx.enter_gemm(TileInt8, kernel),
                Arithmetic::SplitF32 => amx.enter_gemm(TileSplitF32, kernel),
                Arithmetic::SplitBf16 => amx.enter_gemm(TileSplitBf16, kernel),
                other => amx.enter(Common(other, kernel)),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd) => match arithmetic {
                Arithmetic::Bf16 => simd.enter_gemm(InSteps(DotBf16(simd)), kernel),
                Arithmetic::Int8 => simd.enter_gemm(InSteps(DotInt8(simd)), kernel),
                other => simd.enter(Common(other, kernel)),
            },
            // Every CPU with AVX-512 has AVX2; int8 runs on it, as this variant has no VNNI kernel.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) if arithmetic == Arithmetic::Int8 => match Avx2::new() {
                Some(simd) => simd.enter_gemm(InSteps(PairsInt8(simd)), kernel),
                None => self.run(Common(arithmetic, kernel)),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(simd) if arithmetic == Arithmetic::Int8 => {
                simd.enter_gemm(InSteps(QuadsVnni(simd)), kernel)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) if arithmetic == Arithmetic::Int8 => {
                simd.enter_gemm(InSteps(PairsInt8(simd)), kernel)
            }
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(simd) => match arithmetic {
                Arithmetic::Bf16 => simd.enter_gemm(InSteps(PairsBf16(simd)), kernel),
                Arithmetic::Int8 => simd.enter_gemm(InSteps(QuadsInt8(simd)), kernel),
                other => on_neon(simd.base(), other, kernel),
            },
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => on_neon(simd, arithmetic, kernel),
            _ => self.run(Common(arithmetic, kernel)),
        }
    }
}

/// Runs a kernel with a plain NEON micro-kernel.
#[cfg(target_arch = "aarch64")]
fn on_neon<K: GemmOp>(simd: Neon, arithmetic: Arithmetic, kernel: K) -> K::Output {
    match arithmetic {
        Arithmetic::F32 => simd.enter_gemm(InSteps(NeonF32(simd)), kernel),
        Arithmetic::F32Bf16 => simd.enter_gemm(InSteps(NeonBf16(simd)), kernel),
        Arithmetic::F32F16 => simd.enter_gemm(InSteps(NeonF16(simd)), kernel),
        Arithmetic::Int8 => simd.enter_gemm(InSteps(PlainInt8), kernel),
        Arithmetic::Bf16 | Arithmetic::SplitF32 | Arithmetic::SplitBf16 => {
            unreachable!("layers choose among what the instruction set has")
        }
    }
}

/// Runs a kernel with a micro-kernel that every instruction set has.
struct Common<K>(Arithmetic, K);

impl<K: GemmOp> SimdOp for Common<K> {
    type Output = K::Output;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> K::Output {
        match self.0 {
            Arithmetic::F32 => self.1.run(s, InSteps(FmaF32(s))),
            Arithmetic::F32Bf16 => self.1.run(s, InSteps(FmaBf16(s))),
            Arithmetic::F32F16 => self.1.run(s, InSteps(FmaF16(s))),
            Arithmetic::Int8 => self.1.run(s, InSteps(PlainInt8)),
            Arithmetic::Bf16 | Arithmetic::SplitF32 | Arithmetic::SplitBf16 => {
                unreachable!("layers choose among what the instruction set has")
            }
        }
    }
}
