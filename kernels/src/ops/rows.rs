//! Activations between operations. On the CPU they reuse the memory of earlier batches, up to a
//! bound, instead of mapping, clearing and unmapping it each time. Copies as tensors have memory of
//! their own.
//!
//! Must not know: layers, how memory is pooled.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::{Backend, CpuSlice};
use crate::cpu::buffer::aligned::{AlignedBytes, cast, cast_mut};
use crate::cpu::thread_pool;

/// A float32 matrix `[rows, width]`.
/// On other devices it may be rounded to 16 bits between operations; copies as tensors are float32.
#[derive(Debug)]
pub struct Rows(Storage);

#[derive(Debug)]
enum Storage {
    Cpu {
        bytes: AlignedBytes,
        width: usize,
    },
    /// On any other device.
    Tensor(Tensor),
}

impl Rows {
    /// A copy of a float32 matrix.
    ///
    /// # Errors
    /// A tensor of another shape or dtype, or a device failure.
    pub fn of(tensor: &Tensor) -> Result<Self> {
        let (rows, width) = tensor.dims2()?;
        if !tensor.device().is_cpu() {
            // Copied, because kernels may modify rows in place.
            return Ok(Self(Storage::Tensor(tensor.force_contiguous()?)));
        }
        let mut copy = Self::cpu(rows, width);
        copy.elements_mut()?.copy_from_slice(&CpuSlice::of(tensor)?);
        Ok(copy)
    }

    /// Rows written one by one, on all threads; `write` gets a row's index and its elements, and
    /// must set all of them.
    ///
    /// # Errors
    /// A device failure.
    pub fn written(
        [rows, width]: [usize; 2],
        device: &Device,
        write: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Self> {
        /// Rows per task.
        const TASK: usize = 16;
        let mut out = Self::cpu(rows, width);
        thread_pool::for_each_part(out.elements_mut()?, TASK * width, |task, part| {
            let rows = part.chunks_exact_mut(width).enumerate();
            rows.for_each(|(row, elements)| write(task * TASK + row, elements));
        });
        if device.is_cpu() {
            Ok(out)
        } else {
            Ok(Self::on_device(out.tensor()?.to_device(device)?))
        }
    }

    /// Writes rows `from` of `other` over the rows from `at` on, or adds them to these.
    ///
    /// # Errors
    /// Rows out of range, a different width, or a device failure.
    pub fn put(&mut self, at: usize, other: &Self, from: Range<usize>, add: bool) -> Result<()> {
        let ([rows, width], [others, other_width]) = (self.shape()?, other.shape()?);
        if width != other_width || from.end > others || at + from.len() > rows {
            bail!(
                "rows: {from:?} of [{others}, {other_width}] do not fit [{rows}, {width}] at {at}"
            );
        }
        if let (Storage::Tensor(to), Storage::Tensor(other)) = (&self.0, &other.0) {
            let new = other.narrow(0, from.start, from.len())?.to_dtype(to.dtype())?;
            let new = if add { (to.narrow(0, at, from.len())? + new)? } else { new };
            to.slice_set(&new.contiguous()?, 0, at)?;
            return Ok(());
        }
        let (to, count) = (at * width, from.len() * width);
        let source = &other.elements()?[from.start * width..from.end * width];
        let target = &mut self.elements_mut()?[to..to + count];
        if add {
            target.iter_mut().zip(source).for_each(|(to, from)| *to += from);
        } else {
            target.copy_from_slice(source);
        }
        Ok(())
    }

    /// Whether they are in CPU memory.
    pub fn is_on_cpu(&self) -> bool {
        matches!(self.0, Storage::Cpu { .. })
    }

    /// A copy of some rows.
    ///
    /// # Errors
    /// Rows out of range, or a device failure.
    pub fn copied(&self, rows: Range<usize>) -> Result<Self> {
        let [count, width] = self.shape()?;
        if rows.end > count {
            bail!("rows: {rows:?} is out of range for {count} rows");
        }
        if let Storage::Tensor(tensor) = &self.0 {
            let part = tensor.narrow(0, rows.start, rows.len())?;
            return Ok(Self::on_device(part.force_contiguous()?));
        }
        let mut copy = Self::cpu(rows.len(), width);
        let elements = &self.elements()?[rows.start * width..rows.end * width];
        copy.elements_mut()?.copy_from_slice(elements);
        Ok(copy)
    }

    /// Concatenates rows on the CPU; a single part is returned as it is.
    ///
    /// # Errors
    /// No parts, or several of different widths or on another device.
    pub fn joined(mut parts: Vec<Self>) -> Result<Self> {
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let Some(first) = parts.first() else { bail!("rows: nothing to join") };
        let [_, width] = first.shape()?;
        let shapes = parts.iter().map(Self::shape).collect::<Result<Vec<_>>>()?;
        if shapes.iter().any(|shape| shape[1] != width) {
            bail!("rows: shapes {shapes:?} differ in width");
        }
        let mut all = Self::cpu(shapes.iter().map(|shape| shape[0]).sum(), width);
        let mut elements = all.elements_mut()?;
        for part in &parts {
            let from = part.elements()?;
            let (to, rest) = elements.split_at_mut(from.len());
            to.copy_from_slice(from);
            elements = rest;
        }
        Ok(all)
    }

    /// Rows on the CPU with arbitrary contents, to be overwritten.
    pub(crate) fn cpu(rows: usize, width: usize) -> Self {
        let bytes = AlignedBytes::reused(rows * width * size_of::<f32>());
        Self(Storage::Cpu { bytes, width })
    }

    /// Rows on another device, without a copy.
    pub(crate) fn on_device(tensor: Tensor) -> Self {
        Self(Storage::Tensor(tensor))
    }

    /// What computes on them.
    pub(crate) fn backend(&self) -> Backend {
        match &self.0 {
            Storage::Cpu { .. } => Backend::Cpu,
            Storage::Tensor(tensor) => Backend::of(tensor.device()),
        }
    }

    /// Their tensor, on another device.
    pub(crate) fn device_tensor(&self) -> Result<&Tensor> {
        match &self.0 {
            Storage::Cpu { .. } => bail!("rows: expected in device memory, found on the CPU"),
            Storage::Tensor(tensor) => Ok(tensor),
        }
    }

    /// As [`device_tensor`](Self::device_tensor), without the rows.
    pub(crate) fn into_device_tensor(self) -> Result<Tensor> {
        match self.0 {
            Storage::Cpu { .. } => bail!("rows: expected in device memory, found on the CPU"),
            Storage::Tensor(tensor) => Ok(tensor),
        }
    }

    /// All elements, on the CPU.
    pub(crate) fn elements(&self) -> Result<&[f32]> {
        match &self.0 {
            Storage::Cpu { bytes, .. } => Ok(cast(bytes)),
            Storage::Tensor(_) => bail!("rows: expected on the CPU, found in device memory"),
        }
    }

    /// All elements, on the CPU, for writing.
    pub(crate) fn elements_mut(&mut self) -> Result<&mut [f32]> {
        match &mut self.0 {
            Storage::Cpu { bytes, .. } => Ok(cast_mut(bytes)),
            Storage::Tensor(_) => bail!("rows: expected on the CPU, found in device memory"),
        }
    }

    /// `[rows, width]`
    ///
    /// # Errors
    /// Never on the CPU; elsewhere, if the tensor is not a matrix.
    pub fn shape(&self) -> Result<[usize; 2]> {
        Ok(match &self.0 {
            Storage::Cpu { bytes, width } => {
                [bytes.len() / size_of::<f32>() / (*width).max(1), *width]
            }
            Storage::Tensor(tensor) => tensor.dims2()?.into(),
        })
    }

    /// A copy as a tensor.
    ///
    /// # Errors
    /// A device failure.
    pub fn tensor(&self) -> Result<Tensor> {
        let [rows, width] = self.shape()?;
        self.part(0..rows, 0..width)
    }

    /// A copy of some rows and columns.
    ///
    /// # Errors
    /// Ranges beyond the matrix, or a device failure.
    pub fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Result<Tensor> {
        let [count, width] = self.shape()?;
        if rows.end > count || columns.end > width {
            bail!("rows {rows:?} and columns {columns:?} of {count} x {width}");
        }
        if let Storage::Tensor(tensor) = &self.0 {
            let part = tensor.narrow(0, rows.start, rows.len())?;
            let part = part.narrow(1, columns.start, columns.len())?;
            return part.to_dtype(DType::F32)?.force_contiguous();
        }
        let elements = self.elements()?[rows.start * width..rows.end * width].chunks_exact(width);
        let part: Vec<f32> = elements.flat_map(|row| &row[columns.clone()]).copied().collect();
        Tensor::from_vec(part, (rows.len(), columns.len()), &Device::Cpu)
    }

    /// A copy of the rows at these indices.
    ///
    /// # Errors
    /// An index beyond the matrix, or a device failure.
    pub fn select(&self, indices: &[usize]) -> Result<Tensor> {
        let [rows, width] = self.shape()?;
        if let Some(index) = indices.iter().find(|index| **index >= rows) {
            bail!("rows: index {index} is out of range for {rows} rows");
        }
        if let Storage::Tensor(tensor) = &self.0 {
            let indices: Vec<u32> = indices.iter().map(|index| *index as u32).collect();
            let rows = tensor.index_select(&Tensor::new(indices, tensor.device())?, 0)?;
            return rows.to_dtype(DType::F32);
        }
        let elements = self.elements()?;
        let rows = indices.iter().map(|index| &elements[index * width..(index + 1) * width]);
        Tensor::from_vec(rows.flatten().copied().collect(), (indices.len(), width), &Device::Cpu)
    }
}
