//! Norms and rotary positions: kernels with one warp per row.
//!
//! Must not know: how threads run.

use candle_core::Device;
use half::{bf16, f16};
use proxima_emulator::{Arg, Buffer, null, read, write};
use proxima_kernels::ops::rotary::RotaryTables;
use proxima_kernels::reference;
use proxima_kernels::spec::{HeadNorms, Heads};

use super::device::*;

const EPS: f32 = 1e-6;
const WIDTHS: [usize; 14] = [1, 3, 4, 31, 32, 33, 127, 128, 132, 384, 1022, 1024, 1028, 2560];
const ROWS: [usize; 5] = [1, 3, 4, 5, 9];

fn rms_norm<T: Float>(x: &[f32], weight: &[f32]) -> Vec<f32> {
    let (width, rows) = (weight.len(), x.len() / weight.len());
    let mut out = unwritten::<T>(x.len());
    let (x, weight) = (Buffer::of(x), Buffer::of(weight));
    let args = [read(&x), read(&weight), Arg::Float(EPS), int(rows), int(width), write(&mut out)];
    launch(&format!("rms_norm_{}", T::NAME), [rows.div_ceil(4), 1], 128, &args);
    widened(&out)
}

/// The sums `x + added`, and their norm.
fn add_rms_norm<T: Float>(x: &[f32], added: &[f32], weight: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let (width, rows) = (weight.len(), x.len() / weight.len());
    let (mut sums, mut out) = (unwritten::<f32>(x.len()), unwritten::<T>(x.len()));
    let (x, added, weight) = (Buffer::of(x), stored::<T>(added), Buffer::of(weight));
    let sizes = [Arg::Float(EPS), int(rows), int(width)];
    let args: Vec<Arg> = [read(&x), read(&added), read(&weight)]
        .into_iter()
        .chain(sizes)
        .chain([write(&mut sums), write(&mut out)])
        .collect();
    launch(&format!("add_rms_norm_{}", T::NAME), [rows.div_ceil(4), 1], 128, &args);
    (widened(&sums), widened(&out))
}

/// The float32 copy, if requested, and the result.
fn layer_norm<T: Float>(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    copy: bool,
) -> (Vec<f32>, Vec<f32>) {
    let (width, rows) = (weight.len(), x.len() / weight.len());
    let (mut normed, mut out) = (unwritten::<f32>(x.len()), unwritten::<T>(x.len()));
    let (x, weight, bias) = (Buffer::of(x), Buffer::of(weight), bias.map(Buffer::of));
    let args = [
        read(&x),
        read(&weight),
        bias.as_ref().map_or(null(), read),
        Arg::Float(EPS),
        int(rows),
        int(width),
        if copy { write(&mut normed) } else { null() },
        write(&mut out),
    ];
    launch(&format!("layer_norm_{}", T::NAME), [rows.div_ceil(4), 1], 128, &args);
    (widened(&normed), widened(&out))
}

fn norms_are_close<T: Float>() {
    for width in WIDTHS {
        let (weight, bias) = (random_values(width, 2), random_values(width, 3));
        for rows in ROWS {
            let what = format!("{} {rows} x {width}", T::NAME);
            // Away from zero, where the two passes of a layer norm matter.
            let x: Vec<f32> =
                random_values(rows * width, 1).iter().map(|value| value + 3.0).collect();
            let (tensor, weights) = (matrix(&x, width), vector(&weight));
            let expected = reference::norm::rms_norm(&tensor, &weights, EPS).expect("a norm");
            let near = [T::UNIT + 2e-6, 1e-6];
            assert_close(&rms_norm::<T>(&x, &weight), &values_of(&expected), near, &what);

            let added = rounded::<T>(&random_values(rows * width, 4));
            let sums: Vec<f32> = x.iter().zip(&added).map(|(x, added)| x + added).collect();
            let (found, out) = add_rms_norm::<T>(&x, &added, &weight);
            assert!(same(&found, &sums), "{what}: sums");
            assert!(same(&out, &rms_norm::<T>(&sums, &weight)), "{what}: the norm of sums");

            // A row of one element has no variance: candle and the kernel agree on its bias.
            for bias in [None, Some(bias.as_slice())] {
                let biases = bias.map(vector);
                let expected = reference::norm::layer_norm(&tensor, &weights, biases.as_ref(), EPS);
                let expected = values_of(&expected.expect("a norm"));
                let (normed, out) = layer_norm::<T>(&x, &weight, bias, true);
                assert_close(&normed, &expected, [2e-6, 2e-5], &what);
                assert_close(&out, &expected, [T::UNIT + 2e-6, 2e-5], &what);
                let (normed, same_out) = layer_norm::<T>(&x, &weight, bias, false);
                assert!(
                    same(&out, &same_out) && normed.iter().all(|value| value.is_nan()),
                    "{what}"
                );
            }
        }
    }
}

#[test]
fn norms_are_close_to_their_definition() {
    norms_are_close::<f32>();
    norms_are_close::<bf16>();
    norms_are_close::<f16>();
}

#[test]
fn a_row_is_normed_the_same_alone_and_among_others_that_are_not_finite() {
    for width in [33, 256] {
        let (mut x, weight) = (random_values(9 * width, 4), random_values(width, 5));
        let (clean, (_, clean_layer)) =
            (rms_norm::<bf16>(&x, &weight), layer_norm::<bf16>(&x, &weight, None, false));
        x[2 * width + 7] = f32::NAN;
        x[6 * width + 1] = f32::INFINITY;
        let (rms, (_, layer)) =
            (rms_norm::<bf16>(&x, &weight), layer_norm::<bf16>(&x, &weight, None, false));
        for row in 0..9 {
            let part = row * width..(row + 1) * width;
            let alone = rms_norm::<bf16>(&x[part.clone()], &weight);
            assert!(same(&alone, &rms[part.clone()]), "row {row}");
            if row == 2 || row == 6 {
                assert!(rms[part.clone()].iter().any(|value| value.is_nan()), "row {row}");
                assert!(layer[part].iter().any(|value| value.is_nan()), "row {row}");
            } else {
                assert!(same(&clean[part.clone()], &rms[part.clone()]), "row {row}");
                assert!(same(&clean_layer[part.clone()], &layer[part]), "row {row}");
            }
        }
    }
}

/// Cosines and sines as in `RotaryTables`.
fn tables(positions: usize, size: usize, theta: f64) -> [Vec<f32>; 2] {
    let half = size / 2;
    let angle = |at: usize| {
        let frequency = (1.0 / theta.powf(2.0 * (at % half) as f64 / size as f64)) as f32;
        f64::from((at / half) as f32 * frequency)
    };
    let table =
        |f: fn(f64) -> f64| (0..positions * half).map(|at| f(angle(at)) as f32).collect::<Vec<_>>();
    [table(f64::cos), table(f64::sin)]
}

/// By the kernel with one warp per head, or by the one with `parts` warps per row.
fn rotary<T: Float>(
    qkv: &[f32],
    heads: Heads,
    norms: Option<[&[f32]; 2]>,
    positions: &[u32],
    parts: Option<usize>,
) -> Vec<f32> {
    let [cos, sin] = tables(50, heads.size, 1e4).map(|table| Buffer::of(&table));
    let norms = norms.map(|norms| norms.map(Buffer::of));
    let [query, key] = match &norms {
        Some([query, key]) => [read(query), read(key)],
        None => [null(), null()],
    };
    let (mut out, uploaded) = (stored::<T>(qkv), Buffer::of(positions));
    let warps = positions.len() * parts.unwrap_or(heads.heads + heads.kv_heads);
    let sizes = [heads.heads, heads.kv_heads, heads.size].map(int);
    let rest = [query, key, Arg::Float(EPS), read(&uploaded), read(&cos), read(&sin)];
    let mut args = vec![write(&mut out), int(positions.len())];
    args.extend(parts.map(int));
    args.extend(sizes.into_iter().chain(rest));
    let wide = if parts.is_some() { "_wide" } else { "" };
    launch(&format!("rotary{wide}_{}", T::NAME), [warps.div_ceil(4), 1], 128, &args);
    widened(&out)
}

fn rotary_is_close<T: Float>() {
    for size in [2, 6, 16, 32, 62, 64, 72, 80, 128, 130, 256] {
        let tables = RotaryTables::new(50, size, 1e4, &Device::Cpu).expect("tables");
        for (heads, kv_heads, rows) in [(1, 1, 1), (3, 1, 3), (4, 2, 5)] {
            let heads = Heads { heads, kv_heads, size };
            let qkv = rounded::<T>(&random_values(rows * heads.row(), size as u32));
            let positions: Vec<u32> = (0..rows as u32).map(|row| row * 11 % 50).collect();
            let weights = [random_values(size, 6), random_values(size, 7)];
            let [queries, keys] = [0, 1].map(|which| vector(&weights[which]));
            let norms = HeadNorms { queries, keys, eps: EPS };
            for norms in [None, Some(&norms)] {
                let tensor = matrix(&qkv, heads.row());
                let expected =
                    reference::rotary::rotary(&tensor, heads, norms, &positions, tables.tables())
                        .expect("rotary");
                let given = norms.map(|_| [weights[0].as_slice(), weights[1].as_slice()]);
                let wide = [1, 2, 5].map(Some).into_iter();
                let wide = wide.filter(|_| size.is_power_of_two() && size >= 16);
                for parts in [None].into_iter().chain(wide) {
                    let got = rotary::<T>(&qkv, heads, given, &positions, parts);
                    let what = format!("{} {heads:?} {rows} {parts:?}", T::NAME);
                    let expected = values_of(&expected);
                    assert_close(&got, &expected, [T::UNIT + 2e-6, 4e-6], &what);
                }
            }
        }
    }
}

#[test]
fn rotary_is_close_to_its_definition() {
    rotary_is_close::<f32>();
    rotary_is_close::<bf16>();
    rotary_is_close::<f16>();
}

#[test]
fn a_head_that_is_not_finite_stays_alone() {
    let heads = Heads { heads: 3, kv_heads: 1, size: 64 };
    let (clean, weights) = (random_values(3 * heads.row(), 8), random_values(64, 9));
    let norms = Some([weights.as_slice(), weights.as_slice()]);
    let mut qkv = clean.clone();
    qkv[heads.row() + 64 + 5] = f32::NAN;
    for parts in [None, Some(1), Some(4)] {
        let (clean, got) = (
            rotary::<f16>(&clean, heads, norms, &[3, 4, 5], parts),
            rotary::<f16>(&qkv, heads, norms, &[3, 4, 5], parts),
        );
        let bad = heads.row() + 64..heads.row() + 128;
        assert!(got[bad.clone()].iter().all(|value| value.is_nan()));
        assert!(same(&clean[..bad.start], &got[..bad.start]));
        assert!(same(&clean[bad.end..], &got[bad.end..]));
    }
}
