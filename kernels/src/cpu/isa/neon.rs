//! NEON, which every 64-bit Arm CPU has: four registers per vector.

use std::arch::aarch64::*;
use std::arch::asm;

use super::simd::{Simd, SimdOp};

/// Proof that this CPU has NEON.
#[derive(Debug, Clone, Copy)]
pub struct Neon(());

/// Four registers, lowest lanes first.
pub type Quad = [float32x4_t; 4];

/// Mask of the upper half of a float32, which holds a bfloat16.
const UPPER: u32 = 0xffff_0000;

impl Neon {
    /// The token, if the CPU and the operating system support these instructions.
    pub fn new() -> Option<Self> {
        std::arch::is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// Runs a kernel compiled for NEON.
    pub fn enter<K: SimdOp>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn entered<K: SimdOp>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: the token exists only where `new` found this feature.
        unsafe { entered(self, kernel) }
    }
}

/// Applies an operation to each of the four registers of its operands.
macro_rules! each {
    (|$($name:ident),+| $body:expr) => {
        std::array::from_fn(|at| {
            $(let $name = $name[at];)+
            // SAFETY: the token proves NEON.
            unsafe { $body }
        })
    };
}

/// Rounds to bfloat16, ties to even, in the upper half of each lane; NaN stays NaN.
#[inline(always)]
fn rounded(value: float32x4_t) -> uint32x4_t {
    // SAFETY: called with the token, which proves NEON.
    unsafe {
        let bits = vreinterpretq_u32_f32(value);
        let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
        let up = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
        let quiet = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
        let chosen = vbslq_u32(vceqq_f32(value, value), up, quiet);
        vandq_u32(chosen, vdupq_n_u32(UPPER))
    }
}

/// Widens four IEEE half elements to float32.
///
/// # Safety
/// `from` is valid for reading 4 elements.
#[inline(always)]
pub(in crate::cpu) unsafe fn widened_f16(from: *const u16) -> float32x4_t {
    let wide: float32x4_t;
    // SAFETY: the caller guarantees 4 elements and has the token, which proves NEON; the
    // instruction has no side effects.
    unsafe {
        let halves = vld1_u16(from);
        asm!(
            "fcvtl {wide:v}.4s, {halves:v}.4h",
            wide = lateout(vreg) wide,
            halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    wide
}

impl Simd for Neon {
    type V = Quad;
    const TILE_ROWS: usize = 3;

    #[inline(always)]
    fn outlined<K: SimdOp>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        #[inline(never)]
        fn outlined<K: SimdOp>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: the token exists only where `new` found this feature.
        unsafe { outlined(self, kernel) }
    }
    #[inline(always)]
    fn splat(self, value: f32) -> Quad {
        // SAFETY: the token proves NEON.
        [unsafe { vdupq_n_f32(value) }; 4]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Quad {
        // SAFETY: the caller guarantees 16 elements; the token proves NEON.
        std::array::from_fn(|at| unsafe { vld1q_f32(from.add(4 * at)) })
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(self, from: *const u16) -> (Quad, Quad) {
        // SAFETY: the caller guarantees 32 elements, the token NEON; unaligned access is fine.
        let pairs: [uint32x4_t; 4] =
            std::array::from_fn(|at| unsafe { vld1q_u32(from.add(8 * at).cast()) });
        let first = each!(|pairs| vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)));
        let second = each!(|pairs| vreinterpretq_f32_u32(vandq_u32(pairs, vdupq_n_u32(UPPER))));
        (first, second)
    }
    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> Quad {
        // SAFETY: the caller guarantees 16 elements.
        std::array::from_fn(|at| unsafe { widened_f16(from.add(4 * at)) })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: Quad) {
        for (at, value) in value.into_iter().enumerate() {
            // SAFETY: the caller guarantees 16 elements; the token proves NEON.
            unsafe { vst1q_f32(to.add(4 * at), value) };
        }
    }
    #[inline(always)]
    fn round_bf16(self, value: Quad) -> Quad {
        each!(|value| vreinterpretq_f32_u32(rounded(value)))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, value: Quad) {
        for (at, value) in value.into_iter().enumerate() {
            // SAFETY: the caller guarantees 16 elements; the token proves NEON.
            unsafe { vst1_u16(to.add(4 * at), vshrn_n_u32::<16>(rounded(value))) };
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut u16, first: Quad, second: Quad) {
        for (at, (first, second)) in first.into_iter().zip(second).enumerate() {
            // SAFETY: the caller guarantees 32 elements, the token NEON; unaligned access is fine.
            unsafe {
                let pairs = vorrq_u32(vshrq_n_u32::<16>(rounded(first)), rounded(second));
                vst1q_u32(to.add(8 * at).cast(), pairs);
            }
        }
    }
    #[inline(always)]
    unsafe fn store_u8(self, to: *mut u8, value: Quad) {
        // SAFETY: the caller guarantees 16 bytes; the token proves NEON.
        unsafe {
            let short = |at: usize| vqmovn_u32(vcvtq_u32_f32(value[at]));
            let half = |at: usize| vqmovn_u16(vcombine_u16(short(at), short(at + 1)));
            vst1q_u8(to, vcombine_u8(half(0), half(2)));
        }
    }
    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // SAFETY: a prefetch never faults, not even at an unmapped address.
        unsafe {
            asm!("prfm pldl1keep, [{from}]", from = in(reg) from, options(nostack, preserves_flags));
        }
    }
    #[inline(always)]
    fn add(self, a: Quad, b: Quad) -> Quad {
        each!(|a, b| vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Quad, b: Quad) -> Quad {
        each!(|a, b| vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Quad, b: Quad) -> Quad {
        each!(|a, b| vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: Quad, b: Quad) -> Quad {
        each!(|a, b| vdivq_f32(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Quad, b: Quad, c: Quad) -> Quad {
        each!(|a, b, c| vfmaq_f32(c, a, b))
    }
    #[inline(always)]
    fn max(self, a: Quad, b: Quad) -> Quad {
        each!(|a, b| vbslq_f32(vcgtq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn min(self, a: Quad, b: Quad) -> Quad {
        each!(|a, b| vbslq_f32(vcltq_f32(a, b), a, b))
    }
    #[inline(always)]
    fn select_lt(self, a: Quad, b: Quad, x: Quad, y: Quad) -> Quad {
        each!(|a, b, x, y| vbslq_f32(vcltq_f32(a, b), x, y))
    }
    #[inline(always)]
    fn round(self, a: Quad) -> Quad {
        each!(|a| vrndnq_f32(a))
    }
    #[inline(always)]
    fn scale(self, a: Quad, n: Quad) -> Quad {
        each!(|a, n| {
            let exponent = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
            vmulq_f32(a, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent)))
        })
    }
}
