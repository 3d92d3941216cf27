//! float32 micro-kernels for NEON: bit-identical to those of `fma.rs`, but loading one register of
//! weights after the other, so that the sums of three rows stay in registers.

use std::arch::aarch64::*;
use std::arch::asm;

use super::fma::{MicroKernelStep, float_sums};
use super::micro_kernel::{Arithmetic, GemmOp, LINE, MicroKernel, PANEL_COLUMNS};
use crate::cpu::isa::neon::{Neon, Quad, widened_f16};
use crate::cpu::isa::simd::Simd;

impl Neon {
    /// Runs a kernel compiled for NEON, with the micro-kernel `product`.
    pub(in crate::cpu) fn enter_gemm<P: MicroKernel, K: GemmOp>(
        self,
        product: P,
        kernel: K,
    ) -> K::Output {
        #[target_feature(enable = "neon")]
        fn entered<P: MicroKernel, K: GemmOp>(simd: Neon, p: P, kernel: K) -> K::Output {
            kernel.run(simd, p)
        }
        // SAFETY: the token exists only where `new` found this feature.
        unsafe { entered(self, product, kernel) }
    }
}

/// Broadcasts one element of each row to all lanes.
///
/// # Safety
/// `x` is valid for reading one element of each row.
#[inline(always)]
unsafe fn of_rows<const HEIGHT: usize>(x: *const u8) -> [float32x4_t; HEIGHT] {
    // SAFETY: guaranteed by the caller; called with the token, which proves NEON.
    std::array::from_fn(|row| unsafe { vld1q_dup_f32(x.add(row * LINE).cast()) })
}

/// Accumulates the weights of four columns times one element of each row.
#[inline(always)]
fn add<const HEIGHT: usize>(
    sums: &mut [[Quad; 2]; HEIGHT],
    half: usize,
    at: usize,
    weights: float32x4_t,
    x: [float32x4_t; HEIGHT],
) {
    for (sums, x) in sums.iter_mut().zip(x) {
        let sum = &mut sums[half][at];
        // SAFETY: called with the token, which proves NEON.
        *sum = unsafe { vfmaq_f32(*sum, x, weights) };
    }
}

/// float32 times float32.
#[derive(Debug, Clone, Copy)]
pub struct NeonF32(pub Neon);

impl MicroKernelStep for NeonF32 {
    float_sums!(Neon);
    const ARITHMETIC: Arithmetic = Arithmetic::F32;
    const STEPS: usize = 16;

    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[Quad; 2]; HEIGHT],
    ) {
        // SAFETY: guaranteed by the caller; packed elements are aligned.
        unsafe {
            let x = of_rows(x);
            for at in 0..8 {
                let weights = vld1q_f32(weights.cast::<f32>().add(4 * at));
                add(sums, at / 4, at % 4, weights, x);
            }
        }
    }
}

/// float32 times bfloat16, widened.
#[derive(Debug, Clone, Copy)]
pub struct NeonBf16(pub Neon);

impl MicroKernelStep for NeonBf16 {
    float_sums!(Neon);
    const ARITHMETIC: Arithmetic = Arithmetic::F32Bf16;
    const STEPS: usize = 8;

    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[Quad; 2]; HEIGHT],
    ) {
        // SAFETY: guaranteed by the caller; packed elements are aligned.
        unsafe {
            let mut weights = weights.cast::<u32>();
            let first = of_rows(x);
            for at in 0..8 {
                let lower = vshlq_n_u32::<16>(vld1q_u32(weights.add(4 * at)));
                add(sums, at / 4, at % 4, vreinterpretq_f32_u32(lower), first);
            }
            // Hides from the compiler that the address is unchanged, so that it loads the weights
            // again: there are no free registers to keep them in.
            asm!("/* {0} */", inout(reg) weights, options(pure, nomem, nostack, preserves_flags));
            let second = of_rows(x.add(4));
            for at in 0..8 {
                let upper = vandq_u32(vld1q_u32(weights.add(4 * at)), vdupq_n_u32(0xffff_0000));
                add(sums, at / 4, at % 4, vreinterpretq_f32_u32(upper), second);
            }
        }
    }
}

/// float32 times IEEE half, widened.
#[derive(Debug, Clone, Copy)]
pub struct NeonF16(pub Neon);

impl MicroKernelStep for NeonF16 {
    float_sums!(Neon);
    const ARITHMETIC: Arithmetic = Arithmetic::F32F16;
    const STEPS: usize = 8;

    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[Quad; 2]; HEIGHT],
    ) {
        // SAFETY: guaranteed by the caller; packed elements are aligned.
        unsafe {
            for depth in 0..2 {
                let (x, weights) =
                    (of_rows(x.add(4 * depth)), weights.cast::<u16>().add(depth * PANEL_COLUMNS));
                for at in 0..8 {
                    add(sums, at / 4, at % 4, widened_f16(weights.add(4 * at)), x);
                }
            }
        }
    }
}
