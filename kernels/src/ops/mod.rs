//! The operations that model families are written in, on tensors of any device.
//!
//! Each checks shapes, then dispatches in one `match` over the `Backend` of its rows' device.
//! Must not know: families, checkpoints, batches.

pub mod attention;
pub mod embedding;
pub mod linear;
pub mod linear_input;
pub mod norm;
pub mod pool;
pub mod replay;
pub mod rotary;
pub mod rows;

use parking_lot::RwLockReadGuard;
use std::ops::Range;

use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, WithDType, bail};
use half::{bf16, f16};

use crate::cpu::thread_pool;
use crate::stored::{StoredElement, StoredTensor};

/// The code that computes an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// [`crate::cpu`].
    Cpu,
    /// [`crate::cuda`].
    Cuda,
    /// [`crate::reference`], on devices without kernels of their own.
    Reference,
}

impl Backend {
    pub(crate) fn of(device: &Device) -> Self {
        match device {
            Device::Cpu => Self::Cpu,
            Device::Cuda(_) => Self::Cuda,
            Device::Metal(_) => Self::Reference,
        }
    }
}

/// The elements of a contiguous float32 tensor on the CPU.
pub(crate) struct CpuSlice<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    range: Range<usize>,
}

impl<'a> CpuSlice<'a> {
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

impl std::ops::Deref for CpuSlice<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.range.clone()],
            _ => unreachable!("checked by `of`"),
        }
    }
}

/// Checks that a tensor is `[rows, width]`; returns `rows`.
pub(crate) fn matrix(tensor: &Tensor, width: usize, what: &str) -> Result<usize> {
    let (rows, found) = tensor.dims2()?;
    if found != width {
        bail!("{what}: expected rows of {width} elements, found {:?}", tensor.shape());
    }
    Ok(rows)
}

/// A row of one of several stored tensors, as (tensor index, row index); `None` is a row of zeros.
pub(crate) type StoredRow = Option<(usize, usize)>;

/// Reads a row of one of the parts into `to`. Elements of `to` beyond the row's width, or all of
/// them if `row` is `None`, are left unchanged.
pub(crate) fn read<E: StoredElement>(parts: &[&StoredTensor], row: StoredRow, to: &mut [E]) {
    if let Some((part, row)) = row {
        let width = parts[part].shape()[1];
        parts[part].read(row * width, &mut to[..width]);
    }
}

/// Rows of stored tensors as a matrix of this width and dtype, on a device other than the CPU.
pub(crate) fn on_device(
    parts: &[&StoredTensor],
    rows: &[StoredRow],
    width: usize,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    fn of<E: StoredElement + WithDType>(
        parts: &[&StoredTensor],
        rows: &[StoredRow],
        width: usize,
        device: &Device,
    ) -> Result<Tensor> {
        let mut elements = vec![E::default(); rows.len() * width];
        thread_pool::for_each_part(&mut elements, width, |row, to| read(parts, rows[row], to));
        Tensor::from_vec(elements, (rows.len(), width), device)
    }
    match dtype {
        DType::BF16 => of::<bf16>(parts, rows, width, device),
        DType::F16 => of::<f16>(parts, rows, width, device),
        _ => of::<f32>(parts, rows, width, device),
    }
}
