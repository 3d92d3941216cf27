//! Shared by tests of CUDA kernels: element types, values, launches and comparisons.
//!
//! Must not know: any one kernel.

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use proxima_emulator::{Arg, Buffer, Element, Launch, emulate};

/// An element type of kernels.
pub trait Float: Element {
    /// The suffix of kernel names.
    const NAME: &'static str;
    /// The largest relative error of rounding to it.
    const UNIT: f32;
    fn rounded(number: f32) -> Self;
    fn widened(self) -> f32;
}

impl Float for f32 {
    const NAME: &'static str = "f32";
    const UNIT: f32 = 1.0 / 16_777_216.0;
    fn rounded(number: f32) -> Self {
        number
    }
    fn widened(self) -> f32 {
        self
    }
}

impl Float for bf16 {
    const NAME: &'static str = "bf16";
    const UNIT: f32 = 1.0 / 256.0;
    fn rounded(number: f32) -> Self {
        Self::from_f32(number)
    }
    fn widened(self) -> f32 {
        self.to_f32()
    }
}

impl Float for f16 {
    const NAME: &'static str = "f16";
    const UNIT: f32 = 1.0 / 2048.0;
    fn rounded(number: f32) -> Self {
        Self::from_f32(number)
    }
    fn widened(self) -> f32 {
        self.to_f32()
    }
}

/// Fixed pseudo-random values in -2..2.
pub fn random_values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 4_194_304.0 - 2.0
    };
    (0..count).map(step).collect()
}

/// Values in device memory, in this type.
pub fn stored<T: Float>(values: &[f32]) -> Buffer<T> {
    let rounded: Vec<T> = values.iter().map(|value| T::rounded(*value)).collect();
    Buffer::of(&rounded)
}

/// The contents of device memory, as float32.
pub fn widened<T: Float>(buffer: &Buffer<T>) -> Vec<f32> {
    buffer.elements().into_iter().map(T::widened).collect()
}

/// Values rounded to a type and back.
pub fn rounded<T: Float>(values: &[f32]) -> Vec<f32> {
    values.iter().map(|value| T::rounded(*value).widened()).collect()
}

/// A buffer to write, filled with NaN to show where nothing was written.
pub fn unwritten<T: Float>(count: usize) -> Buffer<T> {
    Buffer::of(&vec![T::rounded(f32::NAN); count])
}

/// Runs a kernel with `grid` blocks of `block` threads.
pub fn launch(name: &str, grid: [usize; 2], block: u32, args: &[Arg]) {
    launch_with(name, grid, block, (0, 1), args);
}

/// As [`launch`], with bytes of shared memory and a seed for the order of threads.
pub fn launch_with(
    name: &str,
    grid: [usize; 2],
    block: u32,
    (shared, seed): (usize, u64),
    args: &[Arg],
) {
    let grid = [grid[0] as u32, grid[1] as u32, 1];
    let launch = Launch { grid, block, shared, seed };
    // SAFETY: these tests make buffers as long as the kernels assume, with ids and spans that are
    // in bounds, and use each for one launch at a time.
    let result = unsafe { emulate(name, launch, args) };
    result.unwrap_or_else(|fault| panic!("{fault}"));
}

pub fn int(number: usize) -> Arg {
    Arg::Int(number as i32)
}

/// A matrix on the CPU.
pub fn matrix(values: &[f32], width: usize) -> Tensor {
    Tensor::from_slice(values, (values.len() / width, width), &Device::Cpu).expect("a matrix")
}

pub fn vector(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, values.len(), &Device::Cpu).expect("a vector")
}

pub fn values_of(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).expect("values")
}

/// Same bits, except that all NaNs are equal.
pub fn same(left: &[f32], right: &[f32]) -> bool {
    let alike = |(left, right): (&f32, &f32)| {
        left.to_bits() == right.to_bits() || (left.is_nan() && right.is_nan())
    };
    left.len() == right.len() && left.iter().zip(right).all(alike)
}

/// Fails unless all values are within the `relative` plus `absolute` error.
pub fn assert_close(got: &[f32], expected: &[f32], [relative, absolute]: [f32; 2], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let allowed = expected.abs() * relative + absolute;
        let alike = got == expected || (got.is_nan() && expected.is_nan());
        let near = alike || (got - expected).abs() <= allowed;
        assert!(near, "{what}: number {index} is {got}, not {expected}");
    }
}
