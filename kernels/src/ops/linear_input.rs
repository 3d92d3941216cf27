//! Pre-packed GEMM inputs: producers write the next layer's layout directly.

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
    Plain(DType),
}

/// The input of a linear layer, `[rows, width]`.
#[derive(Debug)]
pub struct LinearInput(pub(super) Inner);

#[derive(Debug)]
pub(super) enum Inner {
    Packed(PackedLhs),
    Plain(Tensor),
}

impl LinearInput {
    /// From a float32 matrix.
    ///
    /// # Errors
    /// The tensor is not such a matrix, or a device failure.
    pub fn of(x: &Tensor, layout: InputLayout) -> Result<Self> {
        let (_, width) = x.dims2()?;
        Ok(Self(match layout.0 {
            LayoutKind::Plain(dtype) => Inner::Plain(x.to_dtype(dtype)?),
            LayoutKind::Packed(packing) if width > 0 => {
                let numbers = CpuSlice::of(x)?;
                Inner::Packed(PackedLhs::of(Isa::current(), &numbers, width, packing))
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
        match layout.0 {
            LayoutKind::Packed(packing) if width > 0 => {
                let packed = PackedLhs::of(Isa::current(), x.elements()?, width, packing);
                Ok(Self(Inner::Packed(packed)))
            }
            _ => Self::of(&x.tensor()?, layout),
        }
    }
}
