//! Gates, and epilogues of GEMMs.
//!
//! Must not know: how threads run.

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use proxima_emulator::{Arg, Buffer, null, read, write};
use proxima_kernels::reference::linear::linear;
use proxima_kernels::spec::Activation;

use super::device::*;

/// Activations in the order of the kernels' numbers.
const ACTIVATIONS: [Activation; 5] =
    [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Relu, Activation::Tanh];

/// `act(x + bias)`, computed as a GEMM with the identity.
fn expected(x: &[f32], width: usize, bias: Option<&[f32]>, act: Option<Activation>) -> Vec<f32> {
    let identity: Vec<f32> =
        (0..width * width).map(|at| f32::from(at / width == at % width)).collect();
    let bias = bias.map(vector);
    let out = linear(&matrix(x, width), &matrix(&identity, width), bias.as_ref(), act, None);
    values_of(&out.expect("a product"))
}

fn gated<T: Float>(both: &[f32], width: usize, activation: usize, blocks: usize) -> Vec<f32> {
    let rows = both.len() / width / 2;
    let (both, mut out) = (stored::<T>(both), unwritten::<T>(rows * width));
    let sizes = [Arg::Long(rows as i64), int(width), int(activation)];
    let args: Vec<Arg> = [read(&both)].into_iter().chain(sizes).chain([write(&mut out)]).collect();
    launch(&format!("gated_{}", T::NAME), [blocks, 1], 256, &args);
    widened(&out)
}

fn gates_are_close<T: Float>() {
    for (index, activation) in ACTIVATIONS.into_iter().enumerate() {
        for (rows, width) in [(1, 16), (3, 48), (7, 320), (65, 64)] {
            let both: Vec<f32> =
                random_values(2 * rows * width, 1).iter().map(|value| 2.0 * value).collect();
            let both = rounded::<T>(&both);
            let part = |part: usize| -> Vec<f32> {
                let groups = both.chunks_exact(32).map(|group| &group[16 * part..16 * part + 16]);
                groups.flatten().copied().collect()
            };
            let gates = expected(&part(0), width, None, Some(activation));
            let expected: Vec<f32> =
                gates.iter().zip(part(1)).map(|(gate, value)| gate * value).collect();
            let what = format!("{} {activation:?} {rows} x {width}", T::NAME);
            let near = [T::UNIT + 2e-6, 4e-6];
            let got = gated::<T>(&both, width, index, (rows * width).div_ceil(2048));
            assert_close(&got, &expected, near, &what);
            assert!(same(&got, &gated::<T>(&both, width, index, 3)), "{what}: another grid");
        }
    }
}

#[test]
fn gates_are_close_to_their_definition() {
    gates_are_close::<f32>();
    gates_are_close::<bf16>();
    gates_are_close::<f16>();
}

fn epilogue<T: Float>(x: &[f32], width: usize, bias: Option<&[f32]>, activation: i32) -> Vec<f32> {
    let rows = x.len() / width;
    let (mut x, bias) = (stored::<T>(x), bias.map(Buffer::of));
    let bias = bias.as_ref();
    let args = [
        write(&mut x),
        Arg::Long(rows as i64),
        int(width),
        bias.map_or(null(), read),
        Arg::Int(activation),
    ];
    launch(&format!("epilogue_{}", T::NAME), [(rows * width).div_ceil(2048), 1], 256, &args);
    widened(&x)
}

fn epilogues_are_close<T: Float>() {
    let activations = [None].into_iter().chain(ACTIVATIONS.map(Some));
    for (number, activation) in activations.enumerate() {
        for (rows, width) in [(1, 1), (3, 7), (5, 8), (2, 100), (9, 136)] {
            let x = rounded::<T>(&random_values(rows * width, 2));
            let bias = random_values(width, 3);
            for bias in [None, Some(bias.as_slice())] {
                let expected = expected(&x, width, bias, activation);
                let what = format!("{} {activation:?} {rows} x {width}", T::NAME);
                let got = epilogue::<T>(&x, width, bias, number as i32 - 1);
                assert_close(&got, &expected, [T::UNIT + 2e-6, 2e-6], &what);
            }
        }
    }
}

#[test]
fn epilogues_are_close_to_their_definition() {
    epilogues_are_close::<f32>();
    epilogues_are_close::<bf16>();
    epilogues_are_close::<f16>();
}

#[test]
fn what_is_not_a_number_stays_so_and_alone() {
    for number in -1..5 {
        let clean = random_values(64, 4);
        let mut x = clean.clone();
        x[9] = f32::NAN;
        let (clean, got) =
            (epilogue::<bf16>(&clean, 8, None, number), epilogue::<bf16>(&x, 8, None, number));
        let seen: Vec<usize> = (0..64).filter(|at| got[*at].is_nan()).collect();
        assert_eq!(seen, [9], "activation {number}");
        assert!(same(&clean[..9], &got[..9]) && same(&clean[10..], &got[10..]));
        if number >= 0 {
            let gated = gated::<bf16>(&x, 32, number as usize, 1);
            assert_eq!((0..32).filter(|at| gated[*at].is_nan()).collect::<Vec<_>>(), [9]);
        }
    }
    let large = [-1e30, -200.0, -30.0, 0.0, 30.0, 200.0, 1e30, f32::INFINITY];
    for (number, activation) in ACTIVATIONS.into_iter().enumerate() {
        let got = epilogue::<f32>(&large, 8, None, number as i32);
        let x = Tensor::from_slice(&large, (1, 8), &Device::Cpu).expect("a matrix");
        let one = plain_activation(&x, activation);
        assert_close(&got, &values_of(&one), [2e-6, 1e-6], &format!("{activation:?}"));
    }
}

/// Without a GEMM, which would turn infinity into NaN.
fn plain_activation(x: &Tensor, activation: Activation) -> Tensor {
    let out = match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Silu => x.silu(),
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
    };
    out.expect("an activation")
}
