//! AVX512-BF16 and AVX512-VNNI: AVX-512 with a native conversion to bfloat16.

use std::arch::x86_64::*;

use super::avx512::{Avx512, avx512_simd};
use super::simd::{Simd, SimdOp};

/// Proof that this CPU has AVX512-BF16 and AVX512-VNNI in addition to AVX-512.
#[derive(Debug, Clone, Copy)]
pub struct Avx512Bf16(Avx512);

impl Avx512Bf16 {
    /// The token, if the CPU and the operating system support these instructions.
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni");
        Avx512::new().filter(|_| has).map(Self)
    }

    /// The base instruction set, for everything but GEMM and conversions.
    pub fn base(self) -> Avx512 {
        self.0
    }

    /// Runs a kernel compiled for the base instruction set.
    pub fn enter<K: SimdOp>(self, kernel: K) -> K::Output {
        self.0.enter(kernel)
    }
}

// Native conversion to bfloat16. It has the same bits as on `Avx512`, except that it flushes
// denormals to zero. The micro-kernels that read its results (`DotBf16` and AMX) treat denormals as
// zero anyway, so their sums are the same.
avx512_simd!(Avx512Bf16, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma", {
    #[inline(always)]
    fn round_bf16(self, value: __m512) -> __m512 {
        // SAFETY: the token proves AVX512-BF16; the two types have the same layout.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(rounded)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, value: __m512) {
        // SAFETY: the caller guarantees 16 elements; the token proves AVX512-BF16; the two types
        // have the same layout.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_twice(self, to: *mut u16, left: __m512, right: __m512) {
        // SAFETY: the caller guarantees 32 elements; the token proves AVX512-BF16; the two types
        // have the same layout.
        unsafe {
            let rounded = _mm512_cvtne2ps_pbh(right, left);
            _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(rounded));
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut u16, first: __m512, second: __m512) {
        // SAFETY: the caller guarantees 32 elements; the token proves AVX512-BF16; the types have
        // the same layout.
        unsafe {
            let bits = |value| std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
            let first = _mm512_cvtepu16_epi32(bits(first));
            let second = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits(second)));
            _mm512_storeu_si512(to.cast(), _mm512_or_si512(first, second));
        }
    }
});
