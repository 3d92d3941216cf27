//! Elementary functions on vectors, accurate to a few ULPs and with the same bits on every
//! instruction set. The `rough_*` functions are less accurate, and may differ in bits where
//! [`Simd::reciprocal`] does.

#![allow(clippy::excessive_precision, reason = "coefficients stand as they were published")]

use super::simd::Simd;

/// `e^x`: exactly 0 below -87.3, saturates near the largest float32 above 88.37. NaN stays NaN.
///
/// Range reduction by ln 2 in two parts and a degree-7 polynomial (after Cephes `expf`, Moshier).
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

/// `e^x` for `x <= 0`, for softmax: absolute error below 1e-7, zero below -87.3. NaN stays NaN.
///
/// `2^n 2^f`, where `n` is the integer nearest to `x log2(e)` and `2^f` a degree-6 minimax
/// polynomial: half the instructions of [`exp`], which bounds the relative error instead.
#[inline(always)]
pub fn exp_of_negative<S: Simd>(s: S, x: S::V) -> S::V {
    const LOWEST: f32 = -126.0;
    let scaled = s.mul(x, s.splat(std::f32::consts::LOG2_E));
    let n = s.round(scaled);
    let f = s.sub(scaled, n);
    let mut p = s.splat(1.535_335_678e-4);
    for coefficient in [
        1.339_887_440e-3,
        9.618_437_378e-3,
        5.550_332_471e-2,
        2.402_264_791e-1,
        6.931_472_029e-1,
        1.0,
    ] {
        p = s.fma(p, f, s.splat(coefficient));
    }
    s.select_lt(scaled, s.splat(LOWEST), s.splat(0.0), s.scale(p, n))
}

/// The error function: a minimax polynomial of degree 14 in `x^2` for `erf(x)/x` up to 3.8, beyond
/// which it is 1 to float32 precision. Avoids a division, which would take longer than everything
/// else; the absolute error is below 2.1e-7.
#[inline(always)]
pub fn erf<S: Simd>(s: S, x: S::V) -> S::V {
    const LIMIT: f32 = 3.8;
    let x = s.min(s.splat(LIMIT), s.max(s.splat(-LIMIT), x));
    // Mapped to `[-1, 1]`, where the powers in the polynomial stay small.
    let u = s.fma(s.mul(x, x), s.splat(2.0 / (LIMIT * LIMIT)), s.splat(-1.0));
    let mut p = s.splat(1.022_086_735_3e-3);
    for coefficient in [
        -2.695_759_519_1e-3,
        2.367_276_449_3e-3,
        -3.299_468_102e-3,
        9.949_521_200_7e-3,
        -1.833_327_509e-2,
        2.669_302_506_6e-2,
        -3.893_965_134_4e-2,
        5.505_656_330_9e-2,
        -7.251_549_737_8e-2,
        9.083_270_671_2e-2,
        -1.111_855_765_1e-1,
        1.377_395_166_7e-1,
        -1.856_412_010_9e-1,
        3.721_076_205_4e-1,
    ] {
        p = s.fma(p, u, s.splat(coefficient));
    }
    s.mul(x, p)
}

/// `x / (1 + e^-x)` (SiLU, swish).
#[inline(always)]
pub fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    let negative = s.sub(s.splat(0.0), x);
    s.div(x, s.add(s.splat(1.0), exp(s, negative)))
}

/// `x/2 (1 + erf(x/sqrt 2))` (exact GELU).
#[inline(always)]
pub fn gelu_erf<S: Simd>(s: S, x: S::V) -> S::V {
    let half = s.mul(x, s.splat(0.5));
    s.fma(half, erf(s, s.mul(x, s.splat(std::f32::consts::FRAC_1_SQRT_2))), half)
}

/// `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))` (GELU's tanh approximation).
#[inline(always)]
pub fn gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_121_605_731;
    let cubic = s.mul(s.mul(s.mul(x, x), x), s.splat(0.044_715));
    let twice = s.mul(s.add(x, cubic), s.splat(TWICE_SQRT_2_OVER_PI));
    // x/2 (1 + tanh(u)) = x - x / (e^(2u) + 1)
    s.sub(x, s.div(x, s.add(exp(s, twice), s.splat(1.0))))
}

/// `1 / (1 + e^-x)` with a relative error below 1e-4, for results that are rounded to bfloat16,
/// whose relative spacing is 8e-3. NaN stays NaN.
#[inline(always)]
fn rough_sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    const LIMIT: f32 = 126.0;
    let scaled = s.mul(x, s.splat(-std::f32::consts::LOG2_E));
    let scaled = s.min(s.splat(LIMIT), s.max(s.splat(-LIMIT), scaled));
    let n = s.round(scaled);
    let f = s.sub(scaled, n);
    // A degree-4 minimax polynomial for 2^f, within 2.9e-6.
    let mut p = s.splat(9.582_863_5e-3);
    for coefficient in [5.590_645_78e-2, 2.402_409_86e-1, 6.931_241_9e-1, 1.0] {
        p = s.fma(p, f, s.splat(coefficient));
    }
    s.reciprocal(s.add(s.scale(p, n), s.splat(1.0)))
}

/// [`silu`] for results that are rounded to bfloat16: relative error below 1e-4.
#[inline(always)]
pub fn rough_silu<S: Simd>(s: S, x: S::V) -> S::V {
    s.mul(x, rough_sigmoid(s, x))
}

/// [`gelu_tanh`] for results that are rounded to bfloat16: relative error below 1e-4.
#[inline(always)]
pub fn rough_gelu_tanh<S: Simd>(s: S, x: S::V) -> S::V {
    const TWICE_SQRT_2_OVER_PI: f32 = 1.595_769_121_605_731;
    let cubic = s.mul(s.mul(s.mul(x, x), x), s.splat(0.044_715));
    // x/2 (1 + tanh(u)) = x / (1 + e^(-2u))
    s.mul(x, rough_sigmoid(s, s.mul(s.add(x, cubic), s.splat(TWICE_SQRT_2_OVER_PI))))
}

/// [`gelu_erf`] for results that are rounded to bfloat16: absolute error below 3.5e-5.
///
/// `x (1/2 + x q(x^2))`, where `q` is a degree-8 minimax polynomial up to 4.5, beyond which the
/// result is 0 or `x`.
#[inline(always)]
pub fn rough_gelu_erf<S: Simd>(s: S, x: S::V) -> S::V {
    const LIMIT: f32 = 4.5;
    let near = s.min(s.splat(LIMIT), s.max(s.splat(-LIMIT), x));
    // Mapped to `[-1, 1]`, where the powers in the polynomial stay small.
    let u = s.fma(s.mul(near, near), s.splat(2.0 / (LIMIT * LIMIT)), s.splat(-1.0));
    let mut p = s.splat(3.313_468_99e-3);
    for coefficient in [
        -9.314_847_08e-3,
        1.227_328_5e-2,
        -1.676_207_95e-2,
        2.759_775_01e-2,
        -4.054_930_5e-2,
        5.482_333_23e-2,
        -7.717_250_02e-2,
        1.569_020_06e-1,
    ] {
        p = s.fma(p, u, s.splat(coefficient));
    }
    s.mul(x, s.fma(near, p, s.splat(0.5)))
}

/// `tanh x`.
#[inline(always)]
pub fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let e = exp(s, s.add(x, x));
    s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))))
}
