//! AVX-512: one register per vector.

use std::arch::x86_64::*;

use super::simd::{LANES, Simd, SimdOp};

/// Transposes a 16x16 matrix: interleaves elements, then pairs, then shuffles 128-bit quarters.
///
/// # Safety
/// The CPU has AVX-512F.
#[inline(always)]
pub(in crate::cpu) unsafe fn transposed(rows: [__m512; LANES]) -> [__m512; LANES] {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let pd = |vector| _mm512_castps_pd(vector);
        let ps = |vector| _mm512_castpd_ps(vector);
        let (mut fours, mut columns) = (rows, rows);
        // Quarter `q` of `fours[4 * k + c]` is column `4 * q + c` of rows `4 * k` to `4 * k + 3`.
        for first in (0..LANES).step_by(4) {
            let low = [first, first + 2].map(|row| _mm512_unpacklo_ps(rows[row], rows[row + 1]));
            let high = [first, first + 2].map(|row| _mm512_unpackhi_ps(rows[row], rows[row + 1]));
            fours[first] = ps(_mm512_unpacklo_pd(pd(low[0]), pd(low[1])));
            fours[first + 1] = ps(_mm512_unpackhi_pd(pd(low[0]), pd(low[1])));
            fours[first + 2] = ps(_mm512_unpacklo_pd(pd(high[0]), pd(high[1])));
            fours[first + 3] = ps(_mm512_unpackhi_pd(pd(high[0]), pd(high[1])));
        }
        for column in 0..4 {
            let [one, two, three, four] = [0, 4, 8, 12].map(|first| fours[first + column]);
            let even =
                [_mm512_shuffle_f32x4::<0x88>(one, two), _mm512_shuffle_f32x4::<0x88>(three, four)];
            let odd =
                [_mm512_shuffle_f32x4::<0xdd>(one, two), _mm512_shuffle_f32x4::<0xdd>(three, four)];
            columns[column] = _mm512_shuffle_f32x4::<0x88>(even[0], even[1]);
            columns[column + 4] = _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]);
            columns[column + 8] = _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]);
            columns[column + 12] = _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]);
        }
        columns
    }
}

/// Proof that this CPU has AVX-512 F, BW, DQ and VL.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The token, if the CPU and the operating system support these instructions.
    pub fn new() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("avx2");
        has.then_some(Self(()))
    }

    /// Runs a kernel compiled for AVX-512.
    pub fn enter<K: SimdOp>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn entered<K: SimdOp>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: the token exists only where `new` found these features.
        unsafe { entered(self, kernel) }
    }
}

/// What AVX-512 and its extensions have in common; `$own` holds the differences.
macro_rules! avx512_simd {
    ($token:ident, $features:literal, { $($own:item)* }) => {
        impl Simd for $token {
            type V = __m512;
            const TILE_ROWS: usize = 12;

            #[inline(always)]
            fn splat(self, value: f32) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_set1_ps(value) }
            }
            #[inline(always)]
            unsafe fn load(self, from: *const f32) -> __m512 {
                // SAFETY: the caller guarantees 16 elements; the token proves AVX-512F.
                unsafe { _mm512_loadu_ps(from) }
            }
            #[inline(always)]
            unsafe fn load_bf16_pairs(self, from: *const u16) -> (__m512, __m512) {
                // SAFETY: the caller guarantees 32 elements; the token proves AVX-512F.
                unsafe {
                    let pairs = _mm512_loadu_si512(from.cast());
                    let second = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                    let first = _mm512_slli_epi32::<16>(pairs);
                    (_mm512_castsi512_ps(first), _mm512_castsi512_ps(second))
                }
            }
            #[inline(always)]
            unsafe fn load_f16(self, from: *const u16) -> __m512 {
                // SAFETY: the caller guarantees 16 elements; the token proves AVX-512F.
                unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32, value: __m512) {
                // SAFETY: the caller guarantees 16 elements; the token proves AVX-512F.
                unsafe { _mm512_storeu_ps(to, value) }
            }
            #[inline(always)]
            unsafe fn store_u8(self, to: *mut u8, value: __m512) {
                // SAFETY: the caller guarantees 16 bytes; the token proves AVX-512F.
                unsafe {
                    let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(value));
                    _mm_storeu_si128(to.cast(), bytes);
                };
            }
            #[inline(always)]
            fn prefetch(self, from: *const u8) {
                // SAFETY: a prefetch never faults, not even at an unmapped address.
                unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) };
            }
            #[inline(always)]
            fn add(self, a: __m512, b: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_add_ps(a, b) }
            }
            #[inline(always)]
            fn sub(self, a: __m512, b: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_sub_ps(a, b) }
            }
            #[inline(always)]
            fn mul(self, a: __m512, b: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_mul_ps(a, b) }
            }
            #[inline(always)]
            fn div(self, a: __m512, b: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_div_ps(a, b) }
            }
            #[inline(always)]
            fn reciprocal(self, a: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_rcp14_ps(a) }
            }
            #[inline(always)]
            fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            fn max(self, a: __m512, b: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_max_ps(a, b) }
            }
            #[inline(always)]
            fn min(self, a: __m512, b: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_min_ps(a, b) }
            }
            #[inline(always)]
            fn select_lt(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x) }
            }
            #[inline(always)]
            fn round(self, a: __m512) -> __m512 {
                const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
                // SAFETY: the token proves AVX-512F.
                unsafe { _mm512_roundscale_ps::<NEAREST>(a) }
            }
            #[inline(always)]
            fn scale(self, a: __m512, n: __m512) -> __m512 {
                // SAFETY: the token proves AVX-512F. Same bits as a multiplication by `2^n`.
                unsafe { _mm512_scalef_ps(a, n) }
            }
            #[inline(always)]
            fn sum(self, value: __m512) -> f32 {
                // SAFETY: the token proves AVX-512F and DQ. Halves first, as everywhere.
                unsafe {
                    let upper = _mm512_extractf32x8_ps::<1>(value);
                    let eight = _mm256_add_ps(_mm512_castps512_ps256(value), upper);
                    let upper = _mm256_extractf128_ps::<1>(eight);
                    let four = _mm_add_ps(_mm256_castps256_ps128(eight), upper);
                    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
                }
            }
            #[inline(always)]
            fn largest(self, value: __m512) -> f32 {
                // SAFETY: the token proves AVX-512F.
                unsafe {
                    let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
                    if nan == 0 { _mm512_reduce_max_ps(value) } else { f32::NAN }
                }
            }
            #[inline(always)]
            fn transpose(self, rows: [__m512; 16]) -> [__m512; 16] {
                // SAFETY: the token proves AVX-512F.
                unsafe { $crate::cpu::isa::avx512::transposed(rows) }
            }
            #[inline(always)]
            fn outlined<K: SimdOp>(self, kernel: K) -> K::Output {
                #[target_feature(enable = $features)]
                #[inline(never)]
                fn outlined<K: SimdOp>(simd: $token, kernel: K) -> K::Output {
                    kernel.run(simd)
                }
                // SAFETY: the token exists only where `new` found these features.
                unsafe { outlined(self, kernel) }
            }
            $($own)*
        }
    };
}
pub(in crate::cpu) use avx512_simd;

avx512_simd!(Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma", {
    #[inline(always)]
    fn round_bf16(self, value: __m512) -> __m512 {
        // SAFETY: the token proves AVX-512F.
        unsafe {
            let bits = _mm512_castps_si512(value);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let rounded = _mm512_add_epi32(bits, half);
            // Rounding could carry a NaN into infinity, so NaNs are quieted instead.
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(value, value);
            let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
            let chosen = _mm512_mask_blend_epi32(nan, rounded, quiet);
            let high = _mm512_and_si512(chosen, _mm512_set1_epi32(0xffff_0000_u32 as i32));
            _mm512_castsi512_ps(high)
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16, value: __m512) {
        let rounded = self.round_bf16(value);
        // SAFETY: the caller guarantees 16 elements; the token proves AVX-512F.
        unsafe {
            let high = _mm512_srli_epi32::<16>(_mm512_castps_si512(rounded));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(high));
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, to: *mut u16, first: __m512, second: __m512) {
        let (first, second) = (self.round_bf16(first), self.round_bf16(second));
        // SAFETY: the caller guarantees 32 elements; the token proves AVX-512F.
        unsafe {
            let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(first));
            let pairs = _mm512_or_si512(low, _mm512_castps_si512(second));
            _mm512_storeu_si512(to.cast(), pairs);
        }
    }
});
