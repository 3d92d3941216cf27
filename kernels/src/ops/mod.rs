//! The operations that families are written in, on tensors of any device.
//!
//! Each checks shapes, then runs the device's own kernel or the plain form in candle's operations,
//! which works on every device and is the oracle the kernels are tested against.
//! Must not know: families, checkpoints, batches.

pub mod attention;
pub mod embedding;
pub mod linear;
pub mod norm;
pub mod operand;
pub mod pool;
pub mod rotary;
pub mod rows;

use parking_lot::RwLockReadGuard;
use std::ops::Range;

use candle_core::{CpuStorage, Result, Storage, Tensor, bail};

/// The numbers of a contiguous float32 tensor on the CPU.
pub(crate) struct CpuNumbers<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    range: Range<usize>,
}

impl<'a> CpuNumbers<'a> {
    pub(crate) fn of(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let Some((start, end)) = layout.contiguous_offsets() else {
            bail!("a tensor of shape {:?} is not contiguous", tensor.shape());
        };
        if !matches!(&*storage, Storage::Cpu(CpuStorage::F32(_))) {
            bail!("expected float32 on the CPU, found {:?}", tensor.dtype());
        }
        Ok(Self { storage, range: start..end })
    }
}

impl std::ops::Deref for CpuNumbers<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(numbers)) => &numbers[self.range.clone()],
            _ => unreachable!("checked by `of`"),
        }
    }
}

/// `[rows, width]` of a matrix.
pub(crate) fn matrix(tensor: &Tensor, width: usize, what: &str) -> Result<usize> {
    let (rows, found) = tensor.dims2()?;
    if found != width {
        bail!("{what}: expected rows of {width} numbers, found {:?}", tensor.shape());
    }
    Ok(rows)
}
