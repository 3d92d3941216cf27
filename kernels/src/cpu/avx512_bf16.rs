//! AVX512-BF16 and AVX512-VNNI: products of pairs of bfloat16 numbers and of quads of bytes.

use std::arch::x86_64::*;

use super::avx512::{Avx512, avx512_simd};
use super::fma::Step;
use super::isa::Kernel;
use super::product::{Arithmetic, LINE, Product, ProductKernel};
use super::simd::Simd;

/// Proof that this CPU has AVX512-BF16 and AVX512-VNNI beside AVX-512.
#[derive(Debug, Clone, Copy)]
pub struct Avx512Bf16(Avx512);

impl Avx512Bf16 {
    /// The token, if the CPU and the operating system support it.
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512vnni");
        Avx512::new().filter(|_| has).map(Self)
    }

    /// The instructions for all else.
    pub fn base(self) -> Avx512 {
        self.0
    }

    /// Runs a kernel compiled for these instructions, with a product of them.
    pub fn enter<P: Product, K: ProductKernel>(self, product: P, kernel: K) -> K::Output {
        #[target_feature(
            enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma"
        )]
        fn entered<P: Product, K: ProductKernel>(simd: Avx512Bf16, p: P, kernel: K) -> K::Output {
            kernel.run(simd, p)
        }
        // SAFETY: the token exists only where `new` found these features.
        unsafe { entered(self, product, kernel) }
    }
}

// Conversions to bfloat16 by the instruction for them. Its bits are those of `Avx512` but for
// denormal numbers, which it makes zero. So do the products that read what it wrote (`DotBf16` and
// AMX), so their sums are the same.
avx512_simd!(Avx512Bf16, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vnni,avx2,fma", {
    #[inline(always)]
    fn round_bf16(self, value: __m512) -> __m512 {
        // SAFETY: the token proves AVX512-BF16; the two types have the same bits.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(rounded)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, value: __m512) {
        // SAFETY: the caller vouches for 16 numbers, the token for AVX512-BF16; the two types have
        // the same bits.
        unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
            _mm256_storeu_si256(to.cast(), rounded);
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_twice(self, to: *mut u16, left: __m512, right: __m512) {
        // SAFETY: the caller vouches for 32 numbers, the token for AVX512-BF16; the two types have
        // the same bits.
        unsafe {
            let rounded = _mm512_cvtne2ps_pbh(right, left);
            _mm512_storeu_si512(to.cast(), std::mem::transmute::<__m512bh, __m512i>(rounded));
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut u16, first: __m512, second: __m512) {
        // SAFETY: the caller vouches for 32 numbers, the token for AVX512-BF16; the types have the
        // same bits.
        unsafe {
            let bits = |value| std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(value));
            let first = _mm512_cvtepu16_epi32(bits(first));
            let second = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits(second)));
            _mm512_storeu_si512(to.cast(), _mm512_or_si512(first, second));
        }
    }
});

/// bfloat16 times bfloat16 in pairs. Denormal numbers count as zero.
#[derive(Debug, Clone, Copy)]
pub struct DotBf16(pub Avx512Bf16);

impl Step for DotBf16 {
    type Sum = __m512;
    const ARITHMETIC: Arithmetic = Arithmetic::Bf16;
    const ROWS: usize = 12;
    const STEPS: usize = 16;

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // SAFETY: a prefetch of an address that is not mapped does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the caller vouches for 64 bytes, the token for AVX-512F.
        unsafe { _mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sum: __m512) {
        // SAFETY: the caller vouches for 64 bytes, the token for AVX-512F.
        unsafe { _mm512_storeu_ps(to, sum) };
    }
    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[__m512; 2]; HEIGHT],
    ) {
        // SAFETY: the caller vouches for the memory, the token for AVX512-BF16; the two vector
        // types have the same bits.
        unsafe {
            let pairs = |numbers| std::mem::transmute::<__m512i, __m512bh>(numbers);
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

/// Bytes times bytes with a sign in quads; the sums are exact.
#[derive(Debug, Clone, Copy)]
pub struct DotInt8(pub Avx512Bf16);

impl Step for DotInt8 {
    type Sum = __m512i;
    const ARITHMETIC: Arithmetic = Arithmetic::Int8;
    const ROWS: usize = 12;
    const STEPS: usize = 16;

    #[inline(always)]
    fn prefetch(self, from: *const u8) {
        // SAFETY: a prefetch of an address that is not mapped does nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
    }
    #[inline(always)]
    fn zero(self) -> __m512i {
        // SAFETY: the token proves AVX-512F.
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512i {
        // SAFETY: the caller vouches for 64 bytes, the token for AVX-512F.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, sum: __m512i) {
        // SAFETY: the caller vouches for 64 bytes, the token for AVX-512F.
        unsafe { _mm512_storeu_si512(to.cast(), sum) };
    }
    #[inline(always)]
    unsafe fn step<const HEIGHT: usize>(
        self,
        x: *const u8,
        weights: *const u8,
        sums: &mut [[__m512i; 2]; HEIGHT],
    ) {
        // SAFETY: the caller vouches for the memory, the token for AVX512-VNNI.
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
