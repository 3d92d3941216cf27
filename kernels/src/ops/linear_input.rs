//! Pre-packed GEMM inputs: producers write the next layer's layout directly.

use std::ops::Range;

use candle_core::{DType, Result, Tensor, bail};

use super::CpuSlice;
use super::rows::Rows;
use crate::cpu::Isa;
use crate::cpu::gemm::pack_lhs::{PackedLhs, Packing};

/// The layout in which a linear layer takes its input.
#[derive(Debug, Clone, Copy)]
pub struct InputLayout(pub(super) LayoutKind);

#[derive(Debug, Clone, Copy)]
pub(super) enum LayoutKind {
    /// Packed for the CPU's GEMM.
    Packed(Packing),
    /// A tensor of this dtype, on other devices.
    Tensor(DType),
}

/// The input of a linear layer, `[rows, width]`.
#[derive(Debug)]
pub struct LinearInput(pub(super) Inner);

#[derive(Debug)]
pub(super) enum Inner {
    Packed(PackedLhs),
    Tensor(Tensor),
}

impl InputLayout {
    /// How the CPU packs the input.
    pub(super) fn packing(self) -> Result<Packing> {
        match self.0 {
            LayoutKind::Packed(packing) => Ok(packing),
            LayoutKind::Tensor(_) => bail!("a layer on the CPU before one on another device"),
        }
    }

    /// The input's dtype on other devices.
    pub(super) fn dtype(self) -> Result<DType> {
        match self.0 {
            LayoutKind::Tensor(dtype) => Ok(dtype),
            LayoutKind::Packed(_) => bail!("a layer on another device before one on the CPU"),
        }
    }
}

impl LinearInput {
    /// From a float32 matrix.
    ///
    /// # Errors
    /// The tensor is not such a matrix, or a device failure.
    pub fn of(x: &Tensor, layout: InputLayout) -> Result<Self> {
        let (_, width) = x.dims2()?;
        Ok(Self(match layout.0 {
            LayoutKind::Tensor(dtype) => Inner::Tensor(x.to_dtype(dtype)?),
            LayoutKind::Packed(packing) if width > 0 => {
                let elements = CpuSlice::of(x)?;
                Inner::Packed(PackedLhs::of(Isa::current(), &elements, width, packing))
            }
            LayoutKind::Packed(_) => bail!("rows without elements"),
        }))
    }

    /// From activations between two layers.
    ///
    /// # Errors
    /// A device failure.
    pub fn of_rows(x: &Rows, layout: InputLayout) -> Result<Self> {
        let [_, width] = x.shape()?;
        Self::of_columns(x, 0..width, layout)
    }

    /// From some columns of activations between two layers.
    ///
    /// # Errors
    /// Columns beyond the rows, or a device failure.
    pub fn of_columns(x: &Rows, columns: Range<usize>, layout: InputLayout) -> Result<Self> {
        let [rows, width] = x.shape()?;
        match layout.0 {
            LayoutKind::Packed(packing) if !columns.is_empty() && columns.end <= width => {
                let isa = Isa::current();
                let packed = PackedLhs::of_columns(isa, x.elements()?, width, columns, packing);
                Ok(Self(Inner::Packed(packed)))
            }
            _ => Self::of(&x.part(0..rows, columns)?, layout),
        }
    }
}
