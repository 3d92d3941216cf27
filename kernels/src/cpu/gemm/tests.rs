use super::*;
use crate::cpu::Activation;
use half::{bf16, f16};

/// Numbers without a pattern, in -1..1, the same every time.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(step).collect()
}

const PLAIN: Epilogue<'static> = Epilogue::Plain { bias: None, activation: None, residual: None };

fn packed<E: Plain>(weights: &[E], columns: usize, depth: usize) -> Packed<E> {
    Packed::new(columns, depth, |column, row| {
        row.copy_from_slice(&weights[column * depth..(column + 1) * depth]);
    })
}

fn product<E: Plain>(isa: Isa, x: &[f32], weights: &Packed<E>) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / weights.depth() * weights.columns()];
    multiply(isa, x, weights, &PLAIN, &mut out);
    out
}

/// The definition, one chain of fused multiply-adds in order.
fn reference(x: &[f32], weights: &[f32], depth: usize) -> Vec<f32> {
    let chain =
        |x: &[f32], w: &[f32]| x.iter().zip(w).fold(0.0f32, |sum, (x, w)| x.mul_add(*w, sum));
    let rows = x.chunks_exact(depth);
    rows.flat_map(|row| weights.chunks_exact(depth).map(move |w| chain(row, w))).collect()
}

#[test]
fn every_isa_and_dtype_equals_the_definition_to_the_last_bit() {
    // Around the edges of tiles (1 to 13, 24), panels (32), depth blocks (256) and row blocks.
    let sizes = [
        (1, 1, 1),
        (1, 33, 257),
        (2, 31, 255),
        (3, 32, 256),
        (4, 64, 7),
        (5, 17, 600),
        (11, 16, 64),
        (12, 100, 33),
        (13, 32, 512),
        (24, 1, 300),
        (25, 65, 513),
        (193, 40, 48),
        (400, 33, 20),
    ];
    for (rows, columns, depth) in sizes {
        let (x, w) = (numbers(rows * depth, 1), numbers(columns * depth, 2));
        let brain: Vec<bf16> = w.iter().map(|w| bf16::from_f32(*w)).collect();
        let half: Vec<f16> = w.iter().map(|w| f16::from_f32(*w)).collect();
        let wide = |w: Vec<f32>| reference(&x, &w, depth);
        let expected = [
            wide(w.clone()),
            wide(brain.iter().map(|w| w.to_f32()).collect()),
            wide(half.iter().map(|w| w.to_f32()).collect()),
        ];
        for isa in Isa::all() {
            let got = [
                product(isa, &x, &packed(&w, columns, depth)),
                product(isa, &x, &packed(&brain, columns, depth)),
                product(isa, &x, &packed(&half, columns, depth)),
            ];
            assert!(got == expected, "{} at {rows} x {columns} x {depth}", isa.name());
        }
    }
}

#[test]
fn a_row_has_the_same_bits_among_any_others_and_on_any_number_of_threads() {
    let (columns, depth) = (70, 130);
    let weights = packed(&numbers(columns * depth, 3), columns, depth);
    let x = numbers(500 * depth, 4);
    for isa in Isa::all() {
        let all = product(isa, &x, &weights);
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let again = pool.expect("threads").install(|| product(isa, &x, &weights));
            assert!(again == all, "{} on {threads} threads", isa.name());
        }
        for (first, count) in [(0, 1), (7, 12), (250, 77), (499, 1)] {
            let part = product(isa, &x[first * depth..(first + count) * depth], &weights);
            assert!(part == all[first * columns..(first + count) * columns], "{}", isa.name());
        }
    }
}

#[test]
fn what_is_not_finite_stays_in_its_row() {
    let (columns, depth) = (33, 40);
    let weights = packed(&numbers(columns * depth, 5), columns, depth);
    let clean = numbers(30 * depth, 6);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = clean.clone();
        x[13 * depth + 5] = bad;
        for isa in Isa::all() {
            let (got, expected) = (product(isa, &x, &weights), product(isa, &clean, &weights));
            for row in 0..30 {
                let range = row * columns..(row + 1) * columns;
                if row == 13 {
                    assert!(got[range].iter().all(|value| !value.is_finite()), "{}", isa.name());
                } else {
                    assert!(got[range.clone()] == expected[range], "{}", isa.name());
                }
            }
        }
    }
}

#[test]
fn epilogues_are_applied_in_their_order() {
    let (rows, columns, depth) = (14, 48, 20);
    let (x, w) = (numbers(rows * depth, 7), numbers(columns * depth, 8));
    let (bias, residual) = (numbers(columns, 9), numbers(rows * columns, 10));
    let weights = packed(&w, columns, depth);
    let sums = reference(&x, &w, depth);
    for isa in Isa::all() {
        let mut out = vec![0.0; rows * columns];
        let epilogue = Epilogue::Plain {
            bias: Some(&bias),
            activation: Some(Activation::Relu),
            residual: Some(&residual),
        };
        multiply(isa, &x, &weights, &epilogue, &mut out);
        for (at, got) in out.iter().enumerate() {
            let expected = (sums[at] + bias[at % columns]).max(0.0) + residual[at];
            assert_eq!(*got, expected, "{}", isa.name());
        }
        // 48 columns are a group of 16 gates, 16 values, and half a group: not allowed.
        let weights = packed(&w[..32 * depth], 32, depth);
        let mut gated = vec![0.0; rows * 16];
        let epilogue = Epilogue::Gated { activation: Activation::Relu };
        multiply(isa, &x, &weights, &epilogue, &mut gated);
        for (at, got) in gated.iter().enumerate() {
            let (row, place) = (at / 16, at % 16);
            let expected = sums[row * columns + place].max(0.0) * sums[row * columns + 16 + place];
            assert_eq!(*got, expected, "{}", isa.name());
        }
    }
}
