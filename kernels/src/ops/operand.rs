//! Inputs of linear layers as the layers take them, so that what makes them can write them so at
//! once.

use candle_core::{DType, Result, Tensor, bail};

use super::CpuNumbers;
use super::rows::Rows;
use crate::cpu::Isa;
use crate::cpu::operand::{Operand as CpuOperand, Packing};

/// How a linear layer takes its input.
#[derive(Debug, Clone, Copy)]
pub struct Takes(pub(super) How);

#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    /// Packed for the CPU's product.
    Packed(Packing),
    /// A tensor of this dtype, on other devices.
    Plain(DType),
}

/// The input of a linear layer, `[rows, width]`.
#[derive(Debug)]
pub struct Operand(pub(super) Inner);

#[derive(Debug)]
pub(super) enum Inner {
    Packed(CpuOperand),
    Plain(Tensor),
}

impl Operand {
    /// The rows of a float32 matrix.
    ///
    /// # Errors
    /// A tensor of another shape, or a failure of the device.
    pub fn of(x: &Tensor, takes: Takes) -> Result<Self> {
        let (_, width) = x.dims2()?;
        Ok(Self(match takes.0 {
            How::Plain(dtype) => Inner::Plain(x.to_dtype(dtype)?),
            How::Packed(packing) if width > 0 => {
                let numbers = CpuNumbers::of(x)?;
                Inner::Packed(CpuOperand::of(Isa::current(), &numbers, width, packing))
            }
            How::Packed(_) => bail!("rows without numbers"),
        }))
    }

    /// The rows between two layers.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn of_rows(x: &Rows, takes: Takes) -> Result<Self> {
        let [_, width] = x.shape()?;
        match takes.0 {
            How::Packed(packing) if width > 0 => {
                let packed = CpuOperand::of(Isa::current(), x.numbers()?, width, packing);
                Ok(Self(Inner::Packed(packed)))
            }
            _ => Self::of(&x.tensor()?, takes),
        }
    }
}
