//! Plain value types shared by the driver and its callers, with and without the feature `cuda`.
//!
//! Must not know: CUDA's own types.

use candle_core::Tensor;

/// Properties of a device, and how much of its memory is free now.
#[derive(Clone, Debug)]
pub struct Properties {
    /// The driver's name for it.
    pub name: String,
    /// The compute capability, such as `(9, 0)`.
    pub capability: (i32, i32),
    /// Streaming multiprocessors (SMs).
    pub multiprocessors: usize,
    /// Total memory.
    pub bytes_total: usize,
    /// Memory not in use.
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

/// A launch configuration.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    /// Blocks; if any of the three is 0, nothing is launched.
    pub grid: [u32; 3],
    /// Threads per block.
    pub block: [u32; 3],
    /// Dynamic shared memory per block.
    pub shared_bytes: u32,
}

/// A kernel argument, in the type that the kernel declares.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// A device address; 0 is the null pointer.
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
