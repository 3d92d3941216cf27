//! Elementary functions on vectors, a few units in the last place from exact, the same bits on
//! every instruction set.

#![allow(clippy::excessive_precision, reason = "coefficients stand as they were published")]

use super::simd::Simd;

/// `e^x`. Below -87.3 it is exactly 0, above 88.37 it saturates near the largest number; NaN stays
/// NaN.
///
/// Range reduction by ln 2 in two parts and a degree-6 polynomial (after Cephes `expf`, Moshier).
#[inline(always)]
pub fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const LOWEST: f32 = -87.3;
    let clamped = s.min(s.splat(88.37), s.max(s.splat(LOWEST), x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fma(n, s.splat(-0.693_359_375), clamped);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_150_0e-4);
    for coefficient in [
        1.398_199_950_7e-3,
        8.333_451_907_3e-3,
        4.166_579_589_4e-2,
        1.666_666_545_9e-1,
        5.000_000_120_1e-1,
    ] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    let p = s.fma(p, s.mul(r, r), s.add(r, s.splat(1.0)));
    s.select_lt(x, s.splat(LOWEST), s.splat(0.0), s.scale(p, n))
}

/// The error function, by the rational approximation of Eigen's `generic_fast_erf`
/// (absolute error below 3e-7).
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    let x = s.min(s.splat(4.0), s.max(s.splat(-4.0), x));
    let square = s.mul(x, x);
    let mut numerator = s.splat(-2.726_142_258_013_06e-10);
    for coefficient in [
        2.770_681_424_959_02e-8,
        -2.101_024_020_825_08e-6,
        -5.692_506_394_623_46e-5,
        -7.349_906_303_268_55e-4,
        -2.954_599_808_540_25e-3,
        -1.609_603_332_624_15e-2,
    ] {
        numerator = s.fma(numerator, square, s.splat(coefficient));
    }
    let mut denominator = s.splat(-1.456_607_184_649_96e-5);
    for coefficient in [
        -2.133_740_552_789_05e-4,
        -1.682_826_974_382_03e-3,
        -7.373_329_167_204_68e-3,
        -1.426_473_905_141_89e-2,
    ] {
        denominator = s.fma(denominator, square, s.splat(coefficient));
    }
    s.div(s.mul(x, numerator), denominator)
}

/// `x / (1 + e^-x)` (SiLU, swish).
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    let negative = s.sub(s.splat(0.0), x);
    s.div(x, s.add(s.splat(1.0), exp(s, negative)))
}

/// `x/2 (1 + erf(x/sqrt 2))` (GELU as published).
#[inline(always)]
pub fn gelu_erf<S: Simd>(s: S, x: S::V) -> S::V {
    let half = s.mul(x, s.splat(0.5));
    s.fma(half, erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}

/// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` (GELU's tanh form).
#[inline(always)]
pub fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_121_605_731;
    let cubic = s.mul(s.mul(s.mul(x, x), x), s.splat(0.044_715));
    let twice = s.mul(s.add(x, cubic), s.splat(TWICE_SQRT_2_OVER_PI));
    // x/2 (1 + tanh(u)) = x - x / (e^(2u) + 1)
    s.sub(x, s.div(x, s.add(exp(s, twice), s.splat(1.0))))
}

/// `tanh x`.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp(s, s.add(x, x));
    s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))))
}
