//! int8 micro-kernels without AVX-512: 16-bit multiply-adds, which every CPU with AVX2 has, and
//! AVX-VNNI, which later ones have.

use std::arch::x86_64::*;

use super::fma::MicroKernelStep;
use super::micro_kernel::{Arithmetic, GemmOp, LINE, MicroKernel};
use crate::cpu::isa::avx2::Avx2;
use crate::cpu::isa::avx2_vnni::Avx2Vnni;
use crate::cpu::isa::simd::Simd;

/// 16 sums, lower lanes first.
pub type LaneSums = [__m256i; 2];

impl Avx2 {
    /// Runs a kernel compiled for AVX2, with the micro-kernel `product`.
    pub(in crate::cpu) fn enter_gemm<P: MicroKernel, K: GemmOp>(
        self,
        product: P,
        kernel: K,
    ) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn entered<P: MicroKernel, K: GemmOp>(simd: Avx2, p: P, kernel: K) -> K::Output {
            kernel.run(simd, p)
        }
        // SAFETY: the token exists only where `new` found these features.
        unsafe { entered(self, product, kernel) }
    }
}

impl Avx2Vnni {
    /// Runs a kernel compiled for AVX-VNNI, with the micro-kernel `product`.
    pub(in crate::cpu) fn enter_gemm<P: MicroKernel, K: GemmOp>(
        self,
        product: P,
        kernel: K,
    ) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        fn entered<P: MicroKernel, K: GemmOp>(simd: Avx2, p: P, kernel: K) -> K::Output {
            kernel.run(simd, p)
        }
        // SAFETY: the token exists only where `new` found these features.
        unsafe { entered(self.base(), product, kernel) }
    }
}

macro_rules! sums {
    ($($base:tt)+) => {
        type Sum = LaneSums;
        const ARITHMETIC: Arithmetic = Arithmetic::Int8;
        const STEPS: usize = 16;

        #[inline(always)]
        fn prefetch(self, from: *const u8) {
            self.$($base)+.prefetch(from);
        }
        #[inline(always)]
        fn zero(self) -> LaneSums {
            // SAFETY: the token proves AVX2.
            [unsafe { _mm256_setzero_si256() }; 2]
        }
        #[inline(always)]
        unsafe fn load(self, from: *const f32) -> LaneSums {
            // SAFETY: the caller guarantees 64 bytes; the token proves AVX2.
            unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())] }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32, sum: LaneSums) {
            // SAFETY: the caller guarantees 64 bytes; the token proves AVX2.
            unsafe {
                _mm256_storeu_si256(to.cast(), sum[0]);
                _mm256_storeu_si256(to.add(8).cast(), sum[1]);
            }
        }
    };
}

/// u8 times i8, widened to 16 bits and multiplied in pairs; the sums are exact.
#[derive(Debug, Clone, Copy)]
pub struct PairsInt8(pub Avx2);

impl MicroKernelStep for PairsInt8 {
    sums!(0);
    const ROWS: usize = 2;

    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[LaneSums; 2]; HEIGHT],
    ) {
        // SAFETY: the caller guarantees the memory; the token proves AVX2.
        unsafe {
            // Bytes 0 and 2 of each four, and 1 and 3. No closures here: they would be compiled
            // without the target features.
            let low = _mm256_set1_epi32(0x00ff_00ff);
            let mut parts = [[low; 2]; HEIGHT];
            for (row, parts) in parts.iter_mut().enumerate() {
                let four = _mm256_set1_epi32(x.add(row * LINE).cast::<i32>().read());
                let odd = _mm256_and_si256(_mm256_srli_epi32::<8>(four), low);
                *parts = [_mm256_and_si256(four, low), odd];
            }
            for half in 0..2 {
                for at in 0..2 {
                    let four = _mm256_loadu_si256(weights.add(64 * half + 32 * at).cast());
                    let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(four));
                    let odd = _mm256_srai_epi16::<8>(four);
                    for (sums, x) in sums.iter_mut().zip(&parts) {
                        let sum = &mut sums[half][at];
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(even, x[0]));
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(odd, x[1]));
                    }
                }
            }
        }
    }
}

/// u8 times i8, four products per sum, by AVX-VNNI; the sums are exact.
#[derive(Debug, Clone, Copy)]
pub struct QuadsInt8(pub Avx2Vnni);

impl MicroKernelStep for QuadsInt8 {
    sums!(0.base());
    const ROWS: usize = 3;

    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[LaneSums; 2]; HEIGHT],
    ) {
        // SAFETY: the caller guarantees the memory; the token proves AVX-VNNI.
        unsafe {
            let mut fours = [_mm256_setzero_si256(); HEIGHT];
            for (row, four) in fours.iter_mut().enumerate() {
                *four = _mm256_set1_epi32(x.add(row * LINE).cast::<i32>().read());
            }
            for half in 0..2 {
                for at in 0..2 {
                    let four = _mm256_loadu_si256(weights.add(64 * half + 32 * at).cast());
                    for (sums, x) in sums.iter_mut().zip(fours) {
                        let sum = &mut sums[half][at];
                        *sum = _mm256_dpbusd_avx_epi32(*sum, x, four);
                    }
                }
            }
        }
    }
}
