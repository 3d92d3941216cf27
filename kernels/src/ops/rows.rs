//! Activations between operations. On the CPU they reuse the memory of earlier batches, up to a
//! bound, instead of mapping, clearing and unmapping it each time. Copies as tensors have memory of
//! their own.
//!
//! Must not know: layers, how memory is pooled.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor, bail};

use super::CpuSlice;
use crate::cpu::buffer::aligned::{AlignedBytes, cast, cast_mut};
use crate::cpu::thread_pool;

/// A float32 matrix `[rows, width]`.
/// On other devices it may be rounded to 16 bits between operations; copies as tensors are float32.
#[derive(Debug)]
pub struct Rows(Place);

#[derive(Debug)]
enum Place {
    Cpu { bytes: AlignedBytes, width: usize },
    Plain(Tensor),
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
            return Ok(Self(Place::Plain(tensor.force_contiguous()?)));
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
            rows.for_each(|(row, numbers)| write(task * TASK + row, numbers));
        });
        if device.is_cpu() { Ok(out) } else { Ok(Self::plain(out.tensor()?.to_device(device)?)) }
    }

    /// Writes rows `from` of `other` over the rows from `at` on, or adds them to these.
    ///
    /// # Errors
    /// Rows out of range, a different width, or a device failure.
    pub fn put(&mut self, at: usize, other: &Self, from: Range<usize>, add: bool) -> Result<()> {
        let ([rows, width], [others, other_width]) = (self.shape()?, other.shape()?);
        if width != other_width || from.end > others || at + from.len() > rows {
            bail!("rows {from:?} of {others} x {other_width} do not fit {rows} x {width} at {at}");
        }
        if let (Place::Plain(to), Place::Plain(other)) = (&self.0, &other.0) {
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
        self.as_plain().is_none()
    }

    /// A copy of some rows.
    ///
    /// # Errors
    /// Rows out of range, or a device failure.
    pub fn copied(&self, rows: Range<usize>) -> Result<Self> {
        let [count, width] = self.shape()?;
        if rows.end > count {
            bail!("rows {rows:?} of {count}");
        }
        if let Some(tensor) = self.as_plain() {
            let part = tensor.narrow(0, rows.start, rows.len())?;
            return Ok(Self::plain(part.force_contiguous()?));
        }
        let mut copy = Self::cpu(rows.len(), width);
        let numbers = &self.elements()?[rows.start * width..rows.end * width];
        copy.elements_mut()?.copy_from_slice(numbers);
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
        let Some(first) = parts.first() else { bail!("no rows to join") };
        let [_, width] = first.shape()?;
        let shapes = parts.iter().map(Self::shape).collect::<Result<Vec<_>>>()?;
        if shapes.iter().any(|shape| shape[1] != width) {
            bail!("rows of different widths: {shapes:?}");
        }
        let mut all = Self::cpu(shapes.iter().map(|shape| shape[0]).sum(), width);
        let mut numbers = all.elements_mut()?;
        for part in &parts {
            let from = part.elements()?;
            let (to, rest) = numbers.split_at_mut(from.len());
            to.copy_from_slice(from);
            numbers = rest;
        }
        Ok(all)
    }

    /// Rows on the CPU with arbitrary contents, to be overwritten.
    pub(crate) fn cpu(rows: usize, width: usize) -> Self {
        let bytes = AlignedBytes::reused(rows * width * size_of::<f32>());
        Self(Place::Cpu { bytes, width })
    }

    /// Rows on another device.
    pub(crate) fn plain(tensor: Tensor) -> Self {
        Self(Place::Plain(tensor))
    }

    /// The tensor, if it is on another device.
    pub(crate) fn as_plain(&self) -> Option<&Tensor> {
        match &self.0 {
            Place::Cpu { .. } => None,
            Place::Plain(tensor) => Some(tensor),
        }
    }

    /// The tensor, if it is on another device, else the rows unchanged.
    pub(crate) fn into_plain(self) -> std::result::Result<Tensor, Self> {
        match self.0 {
            Place::Cpu { .. } => Err(self),
            Place::Plain(tensor) => Ok(tensor),
        }
    }

    /// All elements, on the CPU.
    pub(crate) fn elements(&self) -> Result<&[f32]> {
        match &self.0 {
            Place::Cpu { bytes, .. } => Ok(cast(bytes)),
            Place::Plain(_) => bail!("rows of another device where the CPU computes"),
        }
    }

    /// All elements, on the CPU, for writing.
    pub(crate) fn elements_mut(&mut self) -> Result<&mut [f32]> {
        match &mut self.0 {
            Place::Cpu { bytes, .. } => Ok(cast_mut(bytes)),
            Place::Plain(_) => bail!("rows of another device where the CPU computes"),
        }
    }

    /// `[rows, width]`
    ///
    /// # Errors
    /// Never on the CPU; elsewhere, if the tensor is not a matrix.
    pub fn shape(&self) -> Result<[usize; 2]> {
        Ok(match &self.0 {
            Place::Cpu { bytes, width } => {
                [bytes.len() / size_of::<f32>() / (*width).max(1), *width]
            }
            Place::Plain(tensor) => tensor.dims2()?.into(),
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
        if let Some(tensor) = self.as_plain() {
            let part = tensor.narrow(0, rows.start, rows.len())?;
            let part = part.narrow(1, columns.start, columns.len())?;
            return part.to_dtype(DType::F32)?.force_contiguous();
        }
        let numbers = self.elements()?[rows.start * width..rows.end * width].chunks_exact(width);
        let part: Vec<f32> = numbers.flat_map(|row| &row[columns.clone()]).copied().collect();
        Tensor::from_vec(part, (rows.len(), columns.len()), &Device::Cpu)
    }

    /// A copy of the rows at these indices.
    ///
    /// # Errors
    /// An index beyond the matrix, or a device failure.
    pub fn select(&self, places: &[usize]) -> Result<Tensor> {
        let [rows, width] = self.shape()?;
        if let Some(place) = places.iter().find(|place| **place >= rows) {
            bail!("row {place} of {rows}");
        }
        if let Some(tensor) = self.as_plain() {
            let places: Vec<u32> = places.iter().map(|place| *place as u32).collect();
            let rows = tensor.index_select(&Tensor::new(places, tensor.device())?, 0)?;
            return rows.to_dtype(DType::F32);
        }
        let numbers = self.elements()?;
        let rows = places.iter().map(|place| &numbers[place * width..(place + 1) * width]);
        Tensor::from_vec(rows.flatten().copied().collect(), (places.len(), width), &Device::Cpu)
    }
}
