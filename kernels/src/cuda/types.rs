//! What the driver and its callers speak of, with the feature `cuda` and without: plain values.
//!
//! Must not know: CUDA's own types.

use candle_core::Tensor;

/// What a device is, and how much of its memory is free now.
#[derive(Clone, Debug)]
pub struct Properties {
    /// As the driver calls it.
    pub name: String,
    /// The compute capability, such as `(9, 0)`.
    pub capability: (i32, i32),
    /// Multiprocessors, each of which runs blocks on its own.
    pub multiprocessors: usize,
    /// Memory in all.
    pub bytes_total: usize,
    /// Memory that nobody has taken.
    pub bytes_free: usize,
}

/// `x W^T + bias + added`
#[derive(Clone, Copy, Debug)]
pub struct Gemm<'a> {
    /// `[rows, depth]`
    pub x: &'a Tensor,
    /// `W`, `[columns, depth]`, of the same dtype.
    pub weights: &'a Tensor,
    /// `[columns]`, of the result's dtype.
    pub bias: Option<&'a Tensor>,
    /// `[rows, columns]`, of the result's dtype.
    pub added: Option<&'a Tensor>,
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    /// Blocks; where one of the three is 0, nothing is launched.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block.
    pub shared_bytes: u32,
}

/// A value for one parameter of a kernel, in the type that the kernel declares.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// An address in the device's memory; 0 is the null pointer.
    Pointer(u64),
    /// `int`.
    Int(i32),
    /// `unsigned`.
    Unsigned(u32),
    /// `long long`.
    Long(i64),
    /// `float`.
    Float(f32),
}

// === impl Argument ===

impl From<u64> for Argument {
    fn from(address: u64) -> Self {
        Self::Pointer(address)
    }
}

impl From<i32> for Argument {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Argument {
    fn from(value: u32) -> Self {
        Self::Unsigned(value)
    }
}

impl From<i64> for Argument {
    fn from(value: i64) -> Self {
        Self::Long(value)
    }
}

impl From<f32> for Argument {
    fn from(value: f32) -> Self {
        Self::Float(value)
    }
}
