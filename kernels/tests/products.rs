//! GEMMs on every instruction set and arithmetic, against their definitions.

mod support;

use half::{bf16, f16};
use proxima_kernels::cpu::gemm::micro_kernel::Arithmetic;
use proxima_kernels::cpu::gemm::pack_lhs::PackedLhs;
use proxima_kernels::cpu::gemm::pack_rhs::PackedRhs;
use proxima_kernels::cpu::gemm::{multiply, multiply_packed};
use proxima_kernels::cpu::{Epilogue, Isa};
use proxima_kernels::spec::Activation;
use proxima_kernels::thread_pool::limited;
use support::{isas, random_values};

const PLAIN: Epilogue<'static> = Epilogue::Plain { bias: None, activation: None, residual: None };

/// Rows, columns and depth around the edges of tiles (1 to 13, 16, 24, 32), panels (32), lines (16,
/// 32, 64), and blocks of the depth (256, 512, 1024) and of rows.
const SIZES: [(usize, usize, usize); 16] = [
    (1, 1, 1),
    (1, 33, 257),
    (2, 31, 255),
    (3, 32, 256),
    (4, 64, 7),
    (5, 17, 600),
    (11, 16, 64),
    (12, 100, 33),
    (13, 32, 512),
    (16, 33, 65),
    (17, 64, 128),
    (24, 1, 300),
    (25, 65, 513),
    (33, 32, 1030),
    (193, 40, 48),
    (400, 33, 20),
];

/// The arithmetics of an instruction set.
fn arithmetics(isa: Isa) -> Vec<Arithmetic> {
    use Arithmetic::{Bf16, F32, F32Bf16, F32F16, Int8, SplitBf16, SplitF32};
    let mut all = vec![F32, F32Bf16, F32F16, Int8];
    all.extend(isa.multiplies_bf16().then_some(Bf16));
    if isa.multiplies_tiles() {
        all.extend([SplitF32, SplitBf16]);
    }
    all
}

fn packed(arithmetic: Arithmetic, weights: &[f32], columns: usize, depth: usize) -> PackedRhs {
    PackedRhs::new(arithmetic.weights(), columns, depth, |column, row| {
        row.copy_from_slice(&weights[column * depth..(column + 1) * depth]);
    })
}

fn operand(isa: Isa, arithmetic: Arithmetic, x: &[f32], depth: usize) -> PackedLhs {
    PackedLhs::of(isa, x, depth, isa.packing(arithmetic))
}

fn product(isa: Isa, arithmetic: Arithmetic, x: &[f32], weights: &PackedRhs) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / weights.depth() * weights.columns()];
    let x = operand(isa, arithmetic, x, weights.depth());
    multiply(isa, arithmetic, &x, weights, &PLAIN, &mut out);
    out
}

/// `f` of every pair of a row of `x` and a row of `weights`.
fn each<T>(x: &[f32], weights: &[f32], depth: usize, f: impl Fn(&[f32], &[f32]) -> T) -> Vec<T> {
    let f = &f;
    let rows = x.chunks_exact(depth);
    rows.flat_map(|row| weights.chunks_exact(depth).map(move |w| f(row, w))).collect()
}

/// Weights as rounded by an arithmetic.
fn kept(arithmetic: Arithmetic, weights: &[f32]) -> Vec<f32> {
    let keep = |weight: &f32| match arithmetic {
        Arithmetic::F32Bf16 | Arithmetic::Bf16 | Arithmetic::SplitBf16 => {
            bf16::from_f32(*weight).to_f32()
        }
        Arithmetic::F32F16 => f16::from_f32(*weight).to_f32(),
        _ => *weight,
    };
    weights.iter().map(keep).collect()
}

#[test]
fn float32_has_the_bits_of_the_definition_on_every_isa() {
    for (rows, columns, depth) in SIZES {
        let (x, w) = (random_values(rows * depth, 1), random_values(columns * depth, 2));
        for arithmetic in [Arithmetic::F32, Arithmetic::F32Bf16, Arithmetic::F32F16] {
            // One chain of fused multiply-adds in the order of the depth.
            let chain = |x: &[f32], w: &[f32]| {
                x.iter().zip(w).fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum))
            };
            let expected = each(&x, &kept(arithmetic, &w), depth, chain);
            for isa in isas() {
                let got = product(isa, arithmetic, &x, &packed(arithmetic, &w, columns, depth));
                let what = (isa.name(), arithmetic, rows, columns, depth);
                assert!(got == expected, "{what:?}");
            }
        }
    }
}

/// A column as signed 8-bit integers, and their scale.
fn signed(column: &[f32]) -> (Vec<i64>, f32) {
    let largest = column.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let inverse = 127.0 / largest;
    let byte = |value: &f32| (value * inverse).round_ties_even() as i64;
    (column.iter().map(byte).collect(), largest / 127.0)
}

/// A row as 8-bit integers minus the zero point, and their scale.
fn unsigned(row: &[f32]) -> (Vec<i64>, f32) {
    let (least, largest) =
        row.iter().fold((0.0f32, 0.0f32), |all, x| (all.0.min(*x), all.1.max(*x)));
    let scale = (largest - least) / 255.0;
    let zero = (-least * (1.0 / scale)).round_ties_even();
    let byte = |value: &f32| {
        ((value * (1.0 / scale)).round_ties_even() + zero).clamp(0.0, 255.0) as i64 - zero as i64
    };
    (row.iter().map(byte).collect(), scale)
}

#[test]
fn bytes_have_the_bits_of_the_definition_on_every_isa() {
    for (rows, columns, depth) in SIZES {
        let (x, w) = (random_values(rows * depth, 3), random_values(columns * depth, 4));
        let expected = each(&x, &w, depth, |x, w| {
            let ((x, x_scale), (w, w_scale)) = (unsigned(x), signed(w));
            let sum: i64 = x.iter().zip(&w).map(|(x, w)| x * w).sum();
            sum as f32 * (x_scale * w_scale)
        });
        for isa in isas() {
            let weights = packed(Arithmetic::Int8, &w, columns, depth);
            let got = product(isa, Arithmetic::Int8, &x, &weights);
            assert!(got == expected, "{} at {rows} x {columns} x {depth}", isa.name());
        }
    }
}

#[test]
fn rounded_and_split_products_are_as_close_as_their_numbers_allow() {
    for (rows, columns, depth) in SIZES {
        let (x, w) = (random_values(rows * depth, 5), random_values(columns * depth, 6));
        for isa in isas() {
            for arithmetic in arithmetics(isa) {
                let rounds = arithmetic == Arithmetic::Bf16;
                let input = |x: f32| if rounds { bf16::from_f32(x).to_f32() } else { x };
                // Relative to the product of magnitudes: float32 sums round once per step; two
                // bfloat16 values hold 16 bits, and their lesser parts are not multiplied with each
                // other.
                let allowed = match arithmetic {
                    Arithmetic::SplitF32 => 2.0f64.powi(-15),
                    Arithmetic::Bf16 | Arithmetic::SplitBf16 => 2.0f64.powi(-22),
                    _ => continue,
                };
                let exact = each(&x, &kept(arithmetic, &w), depth, |x, w| {
                    let terms = x.iter().zip(w).map(|(x, w)| f64::from(input(*x)) * f64::from(*w));
                    terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()))
                });
                let got = product(isa, arithmetic, &x, &packed(arithmetic, &w, columns, depth));
                for (got, (exact, size)) in got.iter().zip(exact) {
                    let error = (f64::from(*got) - exact).abs();
                    let what = (isa.name(), arithmetic, rows, columns, depth);
                    assert!(error <= allowed * size, "{what:?}: {error} of {size}");
                }
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_among_others_on_any_number_of_threads() {
    let (rows, columns, depth) = (500, 70, 390);
    let (x, w) = (random_values(rows * depth, 7), random_values(columns * depth, 8));
    for isa in isas() {
        for arithmetic in arithmetics(isa) {
            let weights = packed(arithmetic, &w, columns, depth);
            let all = product(isa, arithmetic, &x, &weights);
            for threads in [1, 3, 16] {
                let again = limited(threads, || product(isa, arithmetic, &x, &weights));
                assert!(again == all, "{} {arithmetic:?} on {threads} threads", isa.name());
            }
            for (first, count) in [(0, 1), (7, 12), (250, 77), (499, 1)] {
                let part = &x[first * depth..(first + count) * depth];
                let part = product(isa, arithmetic, part, &weights);
                let expected = &all[first * columns..(first + count) * columns];
                assert!(part == expected, "{} {arithmetic:?}", isa.name());
            }
        }
    }
}

#[test]
fn columns_too_small_for_bytes_are_zero_and_change_no_other() {
    let (columns, depth) = (35, 130);
    let (x, w) = (random_values(9 * depth, 18), random_values(columns * depth, 19));
    // The first is the smallest normal number; none of the three has a finite inverse scale.
    for tiny in [f32::MIN_POSITIVE, 1e-45, 3.7e-37] {
        let mut with = w.clone();
        with[3 * depth..4 * depth].iter_mut().for_each(|value| *value = tiny * value.signum());
        for isa in isas() {
            let weights = |w: &[f32]| packed(Arithmetic::Int8, w, columns, depth);
            let got = product(isa, Arithmetic::Int8, &x, &weights(&with));
            let expected = product(isa, Arithmetic::Int8, &x, &weights(&w));
            for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
                let expected = if at % columns == 3 { 0.0 } else { expected };
                assert_eq!(*got, expected, "{} with {tiny:e} at {at}", isa.name());
            }
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    let (columns, depth) = (33, 40);
    let (w, clean) = (random_values(columns * depth, 9), random_values(40 * depth, 10));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = clean.clone();
        x[13 * depth + 5] = bad;
        for isa in isas() {
            for arithmetic in arithmetics(isa) {
                let weights = packed(arithmetic, &w, columns, depth);
                let got = product(isa, arithmetic, &x, &weights);
                let expected = product(isa, arithmetic, &clean, &weights);
                for row in 0..40 {
                    let range = row * columns..(row + 1) * columns;
                    let what = (isa.name(), arithmetic, bad);
                    if row == 13 {
                        assert!(got[range].iter().all(|value| !value.is_finite()), "{what:?}");
                    } else {
                        assert!(got[range.clone()] == expected[range], "{what:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn epilogues_are_applied_in_their_order() {
    let (rows, columns, depth) = (45, 48, 20);
    let (x, w) = (random_values(rows * depth, 11), random_values(columns * depth, 12));
    let (bias, residual) = (random_values(columns, 13), random_values(rows * columns, 14));
    for isa in isas() {
        for arithmetic in arithmetics(isa) {
            let weights = packed(arithmetic, &w, columns, depth);
            let (sums, x) =
                (product(isa, arithmetic, &x, &weights), operand(isa, arithmetic, &x, depth));
            let mut out = vec![0.0; rows * columns];
            let epilogue = Epilogue::Plain {
                bias: Some(&bias),
                activation: Some(Activation::Relu),
                residual: Some(&residual),
            };
            multiply(isa, arithmetic, &x, &weights, &epilogue, &mut out);
            for (at, got) in out.iter().enumerate() {
                let expected = (sums[at] + bias[at % columns]).max(0.0) + residual[at];
                assert_eq!(*got, expected, "{} {arithmetic:?}", isa.name());
            }
            // 48 columns would be a group of 16 gates, 16 values, and half a group: not allowed.
            let weights = packed(arithmetic, &w[..32 * depth], 32, depth);
            let mut gated = vec![0.0; rows * 16];
            let epilogue = Epilogue::Gated { activation: Activation::Relu };
            multiply(isa, arithmetic, &x, &weights, &epilogue, &mut gated);
            for (at, got) in gated.iter().enumerate() {
                let (row, lane) = (at / 16, at % 16);
                let gate = sums[row * columns + lane].max(0.0);
                let expected = gate * sums[row * columns + 16 + lane];
                assert_eq!(*got, expected, "{} {arithmetic:?}", isa.name());
            }
        }
    }
}

#[test]
fn a_result_packed_at_once_is_the_result_packed_afterwards() {
    let (rows, depth) = (45, 70);
    let x = random_values(rows * depth, 15);
    for isa in isas() {
        for arithmetic in arithmetics(isa) {
            // The second width leaves the last line half full.
            for columns in [96, 72] {
                let w = random_values(columns * depth, 16);
                let next = packed(arithmetic, &random_values(20 * columns, 17), 20, columns);
                let weights = packed(arithmetic, &w, columns, depth);
                let between = product(isa, arithmetic, &x, &weights);
                let expected = product(isa, arithmetic, &between, &next);
                let x = operand(isa, arithmetic, &x, depth);
                let packing = isa.packing(arithmetic);
                let between = multiply_packed(isa, arithmetic, &x, &weights, &PLAIN, packing);
                let mut got = vec![f32::NAN; expected.len()];
                multiply(isa, arithmetic, &between, &next, &PLAIN, &mut got);
                assert!(got == expected, "{} {arithmetic:?} {columns}", isa.name());
            }
        }
    }
}

/// Epilogues convert to bfloat16 with the CPU's instruction where there is one, which flushes
/// denormals to zero; rows are packed without it. GEMMs treat bfloat16 denormals as zero, so the
/// results are the same.
#[test]
fn results_packed_by_an_epilogue_multiply_as_rows_packed_alone_whatever_the_numbers() {
    let (rows, depth, columns) = (40, 64, 64);
    let odd = [1e-40, -1e-40, -0.0, f32::MIN_POSITIVE, f32::MAX, 1.0 + f32::EPSILON, 3e-39, 1e-20];
    let mut bias: Vec<f32> = odd.iter().copied().cycle().take(columns).collect();
    let (x, w) = (vec![0.0; rows * depth], random_values(columns * depth, 18));
    for special in [0.25, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        bias[9] = special;
        let epilogue = Epilogue::Plain { bias: Some(&bias), activation: None, residual: None };
        for isa in isas() {
            for arithmetic in
                arithmetics(isa).into_iter().filter(|arithmetic| *arithmetic != Arithmetic::Int8)
            {
                let weights = packed(arithmetic, &w, columns, depth);
                let next = packed(arithmetic, &random_values(40 * columns, 19), 40, columns);
                let zeros = operand(isa, arithmetic, &x, depth);
                let packing = isa.packing(arithmetic);
                let mut between = vec![f32::NAN; rows * columns];
                multiply(isa, arithmetic, &zeros, &weights, &epilogue, &mut between);
                let expected = product(isa, arithmetic, &between, &next);
                let between =
                    multiply_packed(isa, arithmetic, &zeros, &weights, &epilogue, packing);
                let mut got = vec![0.0; expected.len()];
                multiply(isa, arithmetic, &between, &next, &PLAIN, &mut got);
                let bits =
                    |all: &[f32]| -> Vec<u32> { all.iter().map(|value| value.to_bits()).collect() };
                assert!(bits(&got) == bits(&expected), "{} {arithmetic:?} {special}", isa.name());
            }
        }
    }
}
