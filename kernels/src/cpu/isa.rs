//! Instruction sets as proof: a token exists only if this CPU can run its instructions.
//!
//! Every kernel is written once, generic over [`Simd`], and computes on vectors of 16 numbers on
//! every instruction set, with fused multiply-adds in the same order. So results have the same
//! bits on all of them. Products come in several arithmetics: those in float32 and in bytes also
//! have the same bits everywhere, those in bfloat16 on one instruction set.
//! Must not know: which kernels exist.

use std::sync::OnceLock;

use super::fma::{FmaBf16, FmaF16, FmaF32, InSteps, PlainInt8, Step};
use super::operand::Packing;
use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::product::Product;
use super::product::{Arithmetic, ProductKernel};
use super::simd::Simd;
#[cfg(target_arch = "x86_64")]
use super::{
    amx::{Amx, TileBf16, TileInt8, TileSplitBf16, TileSplitF32},
    avx2::Avx2,
    avx2_int8::{Avx2Vnni, PairsInt8, QuadsInt8 as QuadsVnni},
    avx512::Avx512,
    avx512_bf16::{Avx512Bf16, DotBf16, DotInt8},
};
#[cfg(target_arch = "aarch64")]
use super::{
    neon::Neon,
    neon_dot::{NeonDot, PairsBf16, QuadsInt8},
    neon_fma::{NeonBf16, NeonF16, NeonF32},
};

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
    /// AMX-BF16 and AMX-INT8 for products, AVX-512 for all else.
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    /// AVX512-BF16 and AVX512-VNNI for products, AVX-512 for all else.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16(Avx512Bf16),
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX-VNNI for products of bytes, AVX2 for all else.
    #[cfg(target_arch = "x86_64")]
    Avx2Vnni(Avx2Vnni),
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// FEAT_BF16 and FEAT_I8MM for products, NEON for all else.
    #[cfg(target_arch = "aarch64")]
    NeonDot(NeonDot),
    /// NEON of 64-bit Arm.
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
    /// Whatever the compiler makes of plain Rust. On a CPU without FMA it is correct but slow.
    Portable(Portable),
}

impl Isa {
    /// All that this CPU has, best first.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Amx::new().map(Self::Amx));
            all.extend(Avx512Bf16::new().map(Self::Avx512Bf16));
            all.extend(Avx512::new().map(Self::Avx512));
            all.extend(Avx2Vnni::new().map(Self::Avx2Vnni));
            all.extend(Avx2::new().map(Self::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        {
            all.extend(NeonDot::new().map(Self::NeonDot));
            all.extend(Neon::new().map(Self::Neon));
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

    /// `amx`, `avx512_bf16`, `avx512`, `avx2_vnni`, `avx2`, `neon_bf16`, `neon` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(_) => "amx",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(_) => "avx512_bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(_) => "avx2_vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(_) => "neon_bf16",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
            Self::Portable(_) => "portable",
        }
    }

    /// Rows of a strip of float32.
    fn tile_rows(self) -> usize {
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

    /// Whether it multiplies bfloat16 numbers by each other.
    pub fn multiplies_bf16(self) -> bool {
        matches!(self.name(), "amx" | "avx512_bf16" | "neon_bf16")
    }

    /// Whether it multiplies tiles, so fast that float32 is better split into bfloat16 numbers.
    pub fn multiplies_tiles(self) -> bool {
        self.name() == "amx"
    }

    /// How activations are packed for a product.
    pub fn packing(self, arithmetic: Arithmetic) -> Packing {
        let strip = match (self, arithmetic) {
            (_, Arithmetic::F32 | Arithmetic::F32Bf16 | Arithmetic::F32F16) => self.tile_rows(),
            #[cfg(target_arch = "x86_64")]
            (Self::Amx(_), _) => TileBf16::ROWS,
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512Bf16(_), _) => DotBf16::ROWS,
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2Vnni(_), _) => QuadsVnni::ROWS,
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2(_), _) => PairsInt8::ROWS,
            #[cfg(target_arch = "aarch64")]
            (Self::NeonDot(_), _) => PairsBf16::ROWS,
            _ => PlainInt8::ROWS,
        };
        Packing { form: arithmetic.form(), strip }
    }

    /// Runs a kernel with this instruction set.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(amx) => amx.base().enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd) => simd.base().enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(simd) => simd.base().enter(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.enter(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(simd) => simd.base().enter(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => simd.enter(kernel),
            Self::Portable(simd) => kernel.run(simd),
        }
    }

    /// Runs a kernel with a product in this arithmetic.
    ///
    /// # Panics
    /// If the instruction set lacks it: layers choose by what it has.
    pub fn run_product<K: ProductKernel>(self, arithmetic: Arithmetic, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Amx(amx) => match arithmetic {
                Arithmetic::Bf16 => amx.enter(TileBf16, kernel),
                Arithmetic::Int8 => amx.enter(TileInt8, kernel),
                Arithmetic::SplitF32 => amx.enter(TileSplitF32, kernel),
                Arithmetic::SplitBf16 => amx.enter(TileSplitBf16, kernel),
                other => amx.base().enter(Common(other, kernel)),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16(simd) => match arithmetic {
                Arithmetic::Bf16 => simd.enter(InSteps(DotBf16(simd)), kernel),
                Arithmetic::Int8 => simd.enter(InSteps(DotInt8(simd)), kernel),
                other => simd.base().enter(Common(other, kernel)),
            },
            // All CPUs with AVX-512 have AVX2; those without VNNI multiply bytes by it. Its strips
            // are those of plain integers.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) if arithmetic == Arithmetic::Int8 => match Avx2::new() {
                Some(simd) => simd.enter_with(InSteps(PairsInt8(simd)), kernel),
                None => self.run(Common(arithmetic, kernel)),
            },
            #[cfg(target_arch = "x86_64")]
            Self::Avx2Vnni(simd) if arithmetic == Arithmetic::Int8 => {
                simd.enter(InSteps(QuadsVnni(simd)), kernel)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) if arithmetic == Arithmetic::Int8 => {
                simd.enter_with(InSteps(PairsInt8(simd)), kernel)
            }
            #[cfg(target_arch = "aarch64")]
            Self::NeonDot(simd) => match arithmetic {
                Arithmetic::Bf16 => simd.enter(InSteps(PairsBf16(simd)), kernel),
                Arithmetic::Int8 => simd.enter(InSteps(QuadsInt8(simd)), kernel),
                other => on_neon(simd.base(), other, kernel),
            },
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => on_neon(simd, arithmetic, kernel),
            _ => self.run(Common(arithmetic, kernel)),
        }
    }
}

/// A product that plain NEON has.
#[cfg(target_arch = "aarch64")]
fn on_neon<K: ProductKernel>(simd: Neon, arithmetic: Arithmetic, kernel: K) -> K::Output {
    match arithmetic {
        Arithmetic::F32 => simd.enter_with(InSteps(NeonF32(simd)), kernel),
        Arithmetic::F32Bf16 => simd.enter_with(InSteps(NeonBf16(simd)), kernel),
        Arithmetic::F32F16 => simd.enter_with(InSteps(NeonF16(simd)), kernel),
        Arithmetic::Int8 => simd.enter_with(InSteps(PlainInt8), kernel),
        Arithmetic::Bf16 | Arithmetic::SplitF32 | Arithmetic::SplitBf16 => {
            unreachable!("layers choose among what the instruction set has")
        }
    }
}

/// Products that every instruction set has.
struct Common<K>(Arithmetic, K);

impl<K: ProductKernel> Kernel for Common<K> {
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
