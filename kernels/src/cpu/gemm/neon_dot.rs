//! FEAT_BF16 and FEAT_I8MM micro-kernels for 64-bit Arm: bfloat16 and 8-bit dot products.

use std::arch::aarch64::*;
use std::arch::asm;

use super::fma::MicroKernelStep;
use super::micro_kernel::{Arithmetic, GemmOp, LINE, MicroKernel};
use crate::cpu::isa::neon::{Neon, Quad};
use crate::cpu::isa::neon_dot::NeonDot;
use crate::cpu::isa::simd::Simd;

impl NeonDot {
    /// Runs a kernel compiled for these extensions, with the micro-kernel `product`.
    pub(in crate::cpu) fn enter_gemm<P: MicroKernel, K: GemmOp>(
        self,
        product: P,
        kernel: K,
    ) -> K::Output {
        #[target_feature(enable = "neon,bf16,i8mm")]
        fn entered<P: MicroKernel, K: GemmOp>(simd: Neon, p: P, kernel: K) -> K::Output {
            kernel.run(simd, p)
        }
        // SAFETY: the token exists only where `new` found these features.
        unsafe { entered(self.base(), product, kernel) }
    }
}

/// Rows per tile: with 32 columns, their sums fill 24 of the 32 registers.
const ROWS: usize = 3;

/// Adds two bfloat16 products to each of four sums.
///
/// # Safety
/// The CPU has FEAT_BF16, and the function that this is inlined into is compiled for it.
#[inline(always)]
unsafe fn add_pairs(sum: &mut float32x4_t, weights: uint32x4_t, x: uint32x4_t) {
    // SAFETY: guaranteed by the caller; the instruction changes only the sum.
    unsafe {
        asm!(
            "bfdot {sum:v}.4s, {weights:v}.8h, {x:v}.8h",
            sum = inout(vreg) *sum,
            weights = in(vreg) weights,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
}

/// Adds four 8-bit products to each of four sums: `x` is unsigned, the weights are signed.
///
/// # Safety
/// The CPU has FEAT_I8MM, and the function that this is inlined into is compiled for it.
#[inline(always)]
unsafe fn add_quads(sum: &mut int32x4_t, weights: uint32x4_t, x: uint32x4_t) {
    // SAFETY: guaranteed by the caller; the instruction changes only the sum.
    unsafe {
        asm!(
            "usdot {sum:v}.4s, {x:v}.16b, {weights:v}.16b",
            sum = inout(vreg) *sum,
            weights = in(vreg) weights,
            x = in(vreg) x,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
}

/// Accumulates a step with only one register of weights live at once.
macro_rules! step {
    ($x:ident, $weights:ident, $sums:ident, $add:ident) => {
        // SAFETY: the caller guarantees the memory; the token proves the instructions.
        unsafe {
            let x: [uint32x4_t; HEIGHT] =
                std::array::from_fn(|row| vld1q_dup_u32($x.add(row * LINE).cast()));
            for half in 0..2 {
                for at in 0..4 {
                    let weights = vld1q_u32($weights.add(64 * half + 16 * at).cast());
                    for (row, sums) in $sums.iter_mut().enumerate() {
                        $add(&mut sums[half][at], weights, x[row]);
                    }
                }
            }
        }
    };
}

/// bfloat16 times bfloat16, two products per sum. Denormals are treated as zero.
#[derive(Debug, Clone, Copy)]
pub struct PairsBf16(pub NeonDot);

impl MicroKernelStep for PairsBf16 {
    type Sum = Quad;
    const ARITHMETIC: Arithmetic = Arithmetic::Bf16;
    const ROWS: usize = ROWS;
    const STEPS: usize = 16;

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        self.0.base().prefetch(from);
    }
    #[inline(always)]
    fn zero(self) -> Quad {
        self.0.base().splat(0.0)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Quad {
        // SAFETY: guaranteed by the caller.
        unsafe { self.0.base().load(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sum: Quad) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.0.base().store(to, sum) };
    }
    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[Quad; 2]; HEIGHT],
    ) {
        step!(x, weights, sums, add_pairs);
    }
}

/// u8 times i8, four products per sum; the sums are exact.
#[derive(Debug, Clone, Copy)]
pub struct QuadsInt8(pub NeonDot);

impl MicroKernelStep for QuadsInt8 {
    type Sum = [int32x4_t; 4];
    const ARITHMETIC: Arithmetic = Arithmetic::Int8;
    const ROWS: usize = ROWS;
    const STEPS: usize = 16;

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        self.0.base().prefetch(from);
    }
    #[inline(always)]
    fn zero(self) -> Self::Sum {
        // SAFETY: the token proves NEON.
        [unsafe { vdupq_n_s32(0) }; 4]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::Sum {
        // SAFETY: the caller guarantees 64 bytes; the token proves NEON.
        std::array::from_fn(|at| unsafe { vld1q_s32(from.add(4 * at).cast()) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sum: Self::Sum) {
        for (at, sum) in sum.into_iter().enumerate() {
            // SAFETY: the caller guarantees 64 bytes; the token proves NEON.
            unsafe { vst1q_s32(to.add(4 * at).cast(), sum) };
        }
    }
    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[Self::Sum; 2]; HEIGHT],
    ) {
        step!(x, weights, sums, add_quads);
    }
}
