//! Operations against their plain forms in candle operations, and elementary functions against
//! double precision.

use proptest::prelude::*;
use proxima_kernels::cpu::Isa;
use proxima_kernels::cpu::gemm::epilogue;
use proxima_kernels::cpu::gemm::micro_kernel::BYTES_DEPTH_MAX;
use proxima_kernels::cpu::isa::math;
use proxima_kernels::cpu::isa::simd::{LANES, Simd, SimdOp};
use proxima_kernels::ops::linear::Linear;
use proxima_kernels::ops::pool::pool;
use proxima_kernels::ops::rotary::{self, RotaryTables};
use proxima_kernels::ops::rows::Rows;
use proxima_kernels::ops::{attention, norm};
use proxima_kernels::reference;
use proxima_kernels::spec::{
    Activation, Ancestor, HeadNorms, Heads, Mask, OffsetBuckets, Pooling, PositionBias, Precision,
    ScoreBias, Scoring, Segment, Sequences, TokenBias, segments_of,
};
use proxima_kernels::stored::StoredTensor;
use proxima_kernels::{DType, Device, Tensor};

fn tensor(rows: usize, width: usize, scale: f32) -> Tensor {
    let values: Vec<f32> = (0..rows * width)
        .map(|at| scale * ((at as f32 * 12.9898).sin() * 43_758.547).fract())
        .collect();
    Tensor::from_vec(values, (rows, width), &Device::Cpu).expect("a tensor")
}

fn rows(tensor: &Tensor) -> Rows {
    Rows::of(tensor).expect("a matrix")
}

fn vector(width: usize, scale: f32) -> Tensor {
    tensor(1, width, scale).reshape(width).expect("a vector")
}

fn worst(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a - b).expect("the same shape").abs().expect("values");
    let worst = difference.flatten_all().expect("flat").max(0).expect("a maximum");
    worst.to_scalar().expect("a number")
}

#[test]
fn norms_equal_their_plain_forms() {
    for (rows, width) in [(1, 1), (3, 15), (7, 16), (5, 100), (40, 1024)] {
        let (x, weight, bias) = (tensor(rows, width, 3.0), vector(width, 1.0), vector(width, 0.3));
        let fast = norm::rms_norm(&x, &weight, 1e-6).expect("normed");
        let plain = reference::norm::rms_norm(&x, &weight, 1e-6).expect("normed");
        assert!(worst(&fast, &plain) < 2e-6, "rms_norm of {width}");
        let fast = norm::layer_norm(&x, &weight, Some(&bias), 1e-5).expect("normed");
        let plain = reference::norm::layer_norm(&x, &weight, Some(&bias), 1e-5).expect("normed");
        // A row of one element has no variance: both divide rounding errors by sqrt(eps).
        assert!(worst(&fast, &plain) < 1e-5, "layer_norm of {width}");
    }
}

#[test]
fn rotary_equals_its_plain_form() {
    for (heads, kv_heads, size) in [(4, 2, 16), (2, 1, 128), (3, 3, 6)] {
        let heads = Heads { heads, kv_heads, size };
        let qkv = tensor(9, heads.row(), 2.0);
        let positions = [0, 1, 2, 3, 0, 1, 500, 7, 31];
        let tables = RotaryTables::new(512, size, 1e6, &Device::Cpu).expect("tables");
        let norms = HeadNorms { queries: vector(size, 1.5), keys: vector(size, 0.7), eps: 1e-6 };
        for norms in [None, Some(&norms)] {
            let fast = rotary::rotary(rows(&qkv), heads, norms, &positions, &tables);
            let fast = fast.expect("turned").tensor().expect("a tensor");
            let plain = reference::rotary::rotary(&qkv, heads, norms, &positions, tables.tables())
                .expect("turned");
            assert!(worst(&fast, &plain) < 2e-6, "{heads:?}");
        }
        let beyond = rotary::rotary(rows(&qkv), heads, None, &[512; 9], &tables);
        assert!(beyond.is_err(), "a position beyond the tables is refused");
    }
}

const HEADS: Heads = Heads { heads: 4, kv_heads: 2, size: 32 };

/// Holds attention against its reference.
fn attends_as_the_reference(qkv: &Tensor, sequences: Sequences<'_>, scoring: Scoring<'_>) {
    let fast = attention::attention(qkv, HEADS, sequences, scoring).expect("attended");
    let plain = reference::attention::attention(qkv, HEADS, sequences, scoring);
    assert!(worst(&fast, &plain.expect("attended")) < 5e-6, "{:?}", scoring.mask);
}

fn is_refused(qkv: &Tensor, sequences: Sequences<'_>, scoring: Scoring<'_>) -> bool {
    attention::attention(qkv, HEADS, sequences, scoring).is_err()
}

#[test]
fn attention_equals_its_reference() {
    let (qkv, segments) = (tensor(150, HEADS.row(), 2.0), segments_of(&[0, 1, 38, 150]));
    let sequences = Sequences::from(&segments[..]);
    for mask in [Mask::Full, Mask::Causal, Mask::Window(9), Mask::CausalWindow(9)] {
        attends_as_the_reference(&qkv, sequences, mask.into());
    }
    let bias = PositionBias { table: tensor(HEADS.heads, 2 * 130 + 1, 2.0), reach: 130 };
    let biased = |mask| Scoring { mask, bias: Some(ScoreBias::Table(&bias)) };
    for mask in [Mask::Full, Mask::Window(9)] {
        attends_as_the_reference(&qkv, sequences, biased(mask));
    }
    let count = 9;
    let of_offsets = (0..=260).map(|offset: u32| offset * 9 / 261).collect();
    let buckets = OffsetBuckets::new(of_offsets, count);
    let terms = || (0..HEADS.heads).map(|_| tensor(150, count, 2.0)).collect::<Vec<_>>();
    let tokens = TokenBias { queries: terms(), keys: terms(), buckets: &buckets };
    let by_token = |mask| Scoring { mask, bias: Some(ScoreBias::Tokens(&tokens)) };
    for mask in [Mask::Full, Mask::Window(9)] {
        attends_as_the_reference(&qkv, sequences, by_token(mask));
    }
    let too_long = segments_of(&[0, 150]);
    assert!(is_refused(&qkv, too_long[..].into(), by_token(Mask::Full)));
    let few = TokenBias { queries: terms(), keys: terms()[1..].to_vec(), buckets: &buckets };
    let few = Scoring { mask: Mask::Full, bias: Some(ScoreBias::Tokens(&few)) };
    assert!(is_refused(&qkv, sequences, few));
    assert!(is_refused(&qkv, too_long[..].into(), biased(Mask::Full)));
    let beyond = segments_of(&[0, 200]);
    assert!(is_refused(&qkv, beyond[..].into(), Mask::Full.into()));
}

#[test]
fn attention_to_shared_and_cached_rows_equals_its_reference() {
    let qkv = tensor(150, HEADS.row(), 2.0);
    let cached = tensor(7, 2 * HEADS.kv_heads * HEADS.size, 2.0);
    let shared = vec![Ancestor::Cached(0), Ancestor::Batch(0..38)];
    let segments = [
        Segment { rows: 0..38, start: 7, ancestors: vec![Ancestor::Cached(0)] },
        Segment { rows: 38..39, start: 45, ancestors: shared.clone() },
        Segment { rows: 39..150, start: 45, ancestors: shared },
    ];
    let sequences = Sequences { segments: &segments, cached: &[&cached] };
    attends_as_the_reference(&qkv, sequences, Mask::Causal.into());
    assert!(is_refused(&qkv, sequences, Mask::Full.into()), "shared rows need a causal mask");
    assert!(is_refused(&qkv, segments[..].into(), Mask::Causal.into()), "cached rows are missing");
}

#[test]
fn poolings_are_as_defined() {
    let rows = Tensor::new(&[[1.0f32, 8.0], [3.0, -2.0], [5.0, 0.0], [7.0, 7.0]], &Device::Cpu);
    let rows = rows.expect("a tensor");
    let pooled = |skips: &[usize], pooling| -> Vec<Vec<f32>> {
        pool(&rows, &[0, 3, 4], skips, pooling).expect("pooled").to_vec2().expect("rows")
    };
    assert_eq!(pooled(&[0, 0], Pooling::Cls), [[1.0, 8.0], [7.0, 7.0]]);
    assert_eq!(pooled(&[0, 0], Pooling::Last), [[5.0, 0.0], [7.0, 7.0]]);
    assert_eq!(pooled(&[0, 0], Pooling::Mean), [[3.0, 2.0], [7.0, 7.0]]);
    // No token of the second sequence is left.
    for method in [Pooling::Mean, Pooling::Last, Pooling::WeightedMean, Pooling::MeanSqrtLength] {
        assert_eq!(pooled(&[1, 1], method)[1], [0.0, 0.0], "{method:?}");
    }
    assert_eq!(pooled(&[1, 1], Pooling::Mean)[0], [4.0, -1.0]);
    assert_eq!(pooled(&[1, 1], Pooling::Cls)[1], [7.0, 7.0]);
    assert!(pooled(&[1, 1], Pooling::Max)[1].iter().all(|number| number.is_nan()));
    assert_eq!(pooled(&[0, 0], Pooling::Max), [[5.0, 8.0], [7.0, 7.0]]);
    assert_eq!(pooled(&[1, 0], Pooling::WeightedMean)[0], [13.0 / 3.0, -2.0 / 3.0]);
    let root = 3.0f32.sqrt();
    assert_eq!(pooled(&[0, 0], Pooling::MeanSqrtLength)[0], [9.0 / root, 6.0 / root]);
}

/// A function of 16 values.
struct Elementwise(fn(f32) -> f64, Which, [f32; LANES]);

#[derive(Clone, Copy)]
enum Which {
    Exp,
    Erf,
    Activation(Activation),
    RoughGelu,
    RoughGeluTanh,
    RoughSilu,
}

impl SimdOp for &Elementwise {
    type Output = [f32; LANES];
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> [f32; LANES] {
        let x = s.load_part(&self.2);
        s.lanes(match self.1 {
            Which::Exp => math::exp(s, x),
            Which::Erf => math::erf(s, x),
            Which::Activation(activation) => epilogue::activated(s, activation, x),
            Which::RoughGelu => math::rough_gelu_erf(s, x),
            Which::RoughGeluTanh => math::rough_gelu_tanh(s, x),
            Which::RoughSilu => math::rough_silu(s, x),
        })
    }
}

/// 16 vectors to transpose.
struct Transposed<'a>(&'a [f32]);

impl SimdOp for Transposed<'_> {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Vec<u32> {
        let mut rows = [s.splat(0.0); LANES];
        for (row, values) in rows.iter_mut().zip(self.0.chunks_exact(LANES)) {
            *row = s.load_part(values);
        }
        let columns = s.transpose(rows).into_iter().flat_map(|column| s.lanes(column));
        columns.map(f32::to_bits).collect()
    }
}

#[test]
fn vectors_are_transposed_bit_for_bit() {
    // NaNs too, which differ in their bits.
    let bits = |index: usize| 0x7f80_0000 + index as u32 * 0x101;
    let rows: Vec<f32> = (0..LANES * LANES).map(|index| f32::from_bits(bits(index))).collect();
    for isa in Isa::all() {
        for (index, found) in isa.run(Transposed(&rows)).into_iter().enumerate() {
            let from = index % LANES * LANES + index / LANES;
            assert_eq!(found, bits(from), "{} at {index}", isa.name());
        }
    }
}

/// The error function in double precision: its Taylor series, accurate for |x| <= 4.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn gelu(x: f64) -> f64 {
    x / 2.0 * (1.0 + if x.abs() > 5.6 { x.signum() } else { erf(x / 2f64.sqrt()) })
}

fn gelu_tanh(x: f64) -> f64 {
    x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn functions(x: [f32; LANES]) -> [(Elementwise, f64, f64); 6] {
    use Activation::{Gelu, GeluTanh, Silu, Tanh};
    // Bounds: relative and absolute.
    [
        (Elementwise(|x| f64::from(x).exp(), Which::Exp, x), 3e-7, 1e-37),
        (Elementwise(|x| erf(f64::from(x).clamp(-4.0, 4.0)), Which::Erf, x), 0.0, 4e-7),
        (Elementwise(|x| gelu(f64::from(x)), Which::Activation(Gelu), x), 4e-7, 1e-6),
        (Elementwise(|x| gelu_tanh(f64::from(x)), Which::Activation(GeluTanh), x), 1e-6, 1e-6),
        (Elementwise(|x| silu(f64::from(x)), Which::Activation(Silu), x), 1e-6, 1e-35),
        (Elementwise(|x| f64::from(x).tanh(), Which::Activation(Tanh), x), 0.0, 4e-7),
    ]
}

/// Functions whose results are rounded to bfloat16 (precision 4e-3), with their bounds.
fn rough_functions(x: [f32; LANES]) -> [(Elementwise, f64, f64); 3] {
    [
        (Elementwise(|x| gelu(f64::from(x)), Which::RoughGelu, x), 1e-7, 3.5e-5),
        (Elementwise(|x| gelu_tanh(f64::from(x)), Which::RoughGeluTanh, x), 1e-4, 1e-12),
        (Elementwise(|x| silu(f64::from(x)), Which::RoughSilu, x), 1e-4, 1e-35),
    ]
}

proptest! {
    #[test]
    fn rough_functions_are_within_their_bounds(x in prop::array::uniform16(-30.0f32..30.0)) {
        for (function, relative, absolute) in rough_functions(x) {
            for isa in Isa::all() {
                for (x, got) in x.iter().zip(isa.run(&function)) {
                    let expected = (function.0)(*x);
                    let bound = relative * expected.abs() + absolute;
                    let off = (f64::from(got) - expected).abs();
                    prop_assert!(off <= bound, "{}, {}: {} for {}", isa.name(), x, got, expected);
                }
            }
        }
    }

    #[test]
    fn functions_are_close_and_the_same_on_every_isa(x in prop::array::uniform16(-30.0f32..30.0)) {
        for (function, relative, absolute) in functions(x) {
            let all: Vec<_> = Isa::all().iter().map(|isa| isa.run(&function)).collect();
            for other in &all {
                prop_assert_eq!(other, &all[0]);
            }
            for (x, got) in x.iter().zip(all[0]) {
                let expected = (function.0)(*x);
                let bound = relative * expected.abs() + absolute;
                let off = (f64::from(got) - expected).abs();
                prop_assert!(off <= bound, "at {}: {} for {}", x, got, expected);
            }
        }
    }
}

#[test]
fn functions_keep_what_is_not_a_number_and_saturate() {
    let mut x = [0.0; LANES];
    x[..4].copy_from_slice(&[f32::NAN, f32::NEG_INFINITY, -1000.0, 1000.0]);
    for isa in Isa::all() {
        for (function, ..) in functions(x) {
            assert!(isa.run(&function)[0].is_nan(), "{}", isa.name());
        }
        for (function, ..) in rough_functions(x) {
            let got = isa.run(&function);
            assert!(got[0].is_nan(), "{}", isa.name());
            assert!(got[2].abs() < 1e-3 && got[3] == 1000.0 && got[4] == 0.0, "{got:?}");
        }
        let exp = isa.run(&functions(x)[0].0);
        assert_eq!((exp[1], exp[2], exp[4]), (0.0, 0.0, 1.0));
        assert!(exp[3].is_finite() && exp[3] > 1e38);
    }
}

#[test]
fn a_layer_too_deep_for_sums_of_bytes_is_refused() {
    let layer = |depth: usize| {
        let weights = StoredTensor::of_values(&vec![1.0; depth], vec![1, depth]).expect("a tensor");
        Linear::new(&[&weights], &[], depth, Precision::Int8, &Device::Cpu)
    };
    let most = layer(BYTES_DEPTH_MAX).expect("a layer");
    let x = Tensor::ones((1, BYTES_DEPTH_MAX), DType::F32, &Device::Cpu).expect("a tensor");
    let sum: Vec<Vec<f32>> = most.forward(&x).expect("a sum").to_vec2().expect("values");
    assert!((sum[0][0] - BYTES_DEPTH_MAX as f32).abs() < 0.1, "{sum:?}");
    let error = layer(BYTES_DEPTH_MAX + 1).expect_err("refused").to_string();
    assert!(error.contains("66312 inputs") && error.contains("66311"), "{error}");
}
