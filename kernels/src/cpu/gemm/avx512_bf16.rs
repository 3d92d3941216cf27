//! AVX512-BF16 and AVX512-VNNI micro-kernels: dot products of two bfloat16 or four 8-bit elements.

use std::arch::x86_64::*;

use super::fma::MicroKernelStep;
use super::micro_kernel::{Arithmetic, GemmOp, LINE, MicroKernel};
use crate::cpu::isa::avx512_bf16::Avx512Bf16;

impl Avx512Bf16 {
    /// Runs a kernel compiled for these extensions, with the micro-kernel `product`.
    pub(in crate::cpu) fn enter_gemm<P: MicroKernel, K: GemmOp>(
        self,
        product: P,
        kernel: K,
    ) -> K::Output {
        #[target_feature(
            enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma"
        )]
        fn entered<P: MicroKernel, K: GemmOp>(simd: Avx512Bf16, p: P, kernel: K) -> K::Output {
            kernel.run(simd, p)
        }
        // SAFETY: the token exists only where `new` found these features.
        unsafe { entered(self, product, kernel) }
    }
}

/// bfloat16 times bfloat16, two products per sum. Denormals are treated as zero.
#[derive(Debug, Clone, Copy)]
pub struct DotBf16(pub Avx512Bf16);

impl MicroKernelStep for DotBf16 {
    type Sum = __m512;
    const ARITHMETIC: Arithmetic = Arithmetic::Bf16;
    const ROWS: usize = 12;
    const STEPS: usize = 16;

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // SAFETY: a prefetch never faults, not even at an unmapped address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the caller guarantees 64 bytes; the token proves AVX-512F.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sum: __m512) {
        // SAFETY: the caller guarantees 64 bytes; the token proves AVX-512F.
        unsafe { _mm512_storeu_ps(to, sum) };
    }
    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[__m512; 2]; HEIGHT],
    ) {
        // SAFETY: the caller guarantees the memory; the token proves AVX512-BF16; the two vector
        // types have the same layout.
        unsafe {
            let pairs = |lanes| std::mem::transmute::<__m512i, __m512bh>(lanes);
            let left = pairs(_mm512_loadu_si512(weights.cast()));
            let right = pairs(_mm512_loadu_si512(weights.add(64).cast()));
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = pairs(_mm512_set1_epi32(*x.add(row * LINE).cast::<i32>()));
                sums[0] = _mm512_dpbf16_ps(sums[0], left, x);
                sums[1] = _mm512_dpbf16_ps(sums[1], right, x);
            }
        }
    }
}

/// u8 times i8, four products per sum; the sums are exact.
#[derive(Debug, Clone, Copy)]
pub struct DotInt8(pub Avx512Bf16);

impl MicroKernelStep for DotInt8 {
    type Sum = __m512i;
    const ARITHMETIC: Arithmetic = Arithmetic::Int8;
    const ROWS: usize = 12;
    const STEPS: usize = 16;

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // SAFETY: a prefetch never faults, not even at an unmapped address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512i {
        // SAFETY: the caller guarantees 64 bytes; the token proves AVX-512F.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sum: __m512i) {
        // SAFETY: the caller guarantees 64 bytes; the token proves AVX-512F.
        unsafe { _mm512_storeu_si512(to.cast(), sum) };
    }
    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[__m512i; 2]; HEIGHT],
    ) {
        // SAFETY: the caller guarantees the memory; the token proves AVX512-VNNI.
        unsafe {
            let left = _mm512_loadu_si512(weights.cast());
            let right = _mm512_loadu_si512(weights.add(64).cast());
            for (row, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_epi32(*x.add(row * LINE).cast::<i32>());
                sums[0] = _mm512_dpbusd_epi32(sums[0], x, left);
                sums[1] = _mm512_dpbusd_epi32(sums[1], x, right);
            }
        }
    }
}
