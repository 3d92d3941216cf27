//! What `cuda` speaks of, with the feature and without: plain values.
//!
//! Must not know: CUDA's own types.

use candle_core::{Device, Tensor};

use crate::KernelError;
use crate::cuda::{self, Kernel, Recording};

/// One list for the module and what stands for it in a build without CUDA: neither changes alone.
const _: () = {
    let _: fn() -> Result<usize, KernelError> = cuda::count;
    let _: fn(usize) -> Result<(), KernelError> = cuda::present;
    let _: fn(usize, Option<f64>) -> Result<Device, KernelError> = cuda::device;
    let _: fn(&Device) -> Result<Properties, KernelError> = cuda::properties;
    let _: fn(&Device) -> Result<(), KernelError> = cuda::check;
    let _: fn(&Device) -> Result<(), KernelError> = cuda::release_memory;
    let _: fn(&KernelError) -> bool = cuda::is_out_of_memory;
    let _: fn(&Device, &str, &str) -> Result<Kernel, KernelError> = cuda::kernel;
    let _: fn(&Device) = cuda::forget;
    let _: Start = cuda::launch;
    let _: fn(&Tensor) -> Result<u64, KernelError> = cuda::address;
    let _: fn(&Product<'_>, &Tensor) -> Result<(), KernelError> = cuda::product;
    let _: fn(&Tensor, &Tensor) -> Result<(), KernelError> = cuda::copy;
    let _: fn(&Device, Run) -> Result<Recording, KernelError> = cuda::record;
    let _: fn(&mut Recording) -> Result<(), KernelError> = Recording::replay;
};

type Run = fn() -> Result<(), KernelError>;
type Start = unsafe fn(&Device, &Kernel, Launch, &[Argument]) -> Result<(), KernelError>;

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
pub struct Product<'a> {
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
