//! Root-mean-square norm and layer norm, row by row.

use candle_core::{D, DType, Device, Result, Tensor, bail};

use super::operand::{How, Inner, Operand, Takes};
use super::rows::Rows;
use super::{CpuNumbers, matrix};
use crate::cpu::{Isa, rows};
use crate::gpu;

/// `x / sqrt(mean(x^2) + eps) * weight` of each row of `[n, width]`.
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    matrix(x, weight.dims1()?, "rms_norm")?;
    if x.device().is_cuda() {
        return gpu::rows::rms_norm(x, weight, eps, DType::F32);
    }
    if !x.device().is_cpu() {
        return plain_rms_norm(x, weight, eps);
    }
    let mut out = vec![0.0; x.elem_count()];
    let weight = CpuNumbers::of(weight)?;
    let norm = rows::Norm::Rms { weight: &weight, eps };
    rows::norm(Isa::current(), norm, &CpuNumbers::of(x)?, &mut out);
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// As [`rms_norm`], as a linear layer takes it.
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn rms_norm_for(x: &Rows, weight: &Tensor, eps: f32, takes: Takes) -> Result<Operand> {
    check(x, weight, "rms_norm")?;
    let packing = match (takes.0, x.as_plain()) {
        (How::Packed(packing), _) => packing,
        (How::Plain(dtype), Some(x)) if x.device().is_cuda() => {
            return Ok(Operand(Inner::Plain(gpu::rows::rms_norm(x, weight, eps, dtype)?)));
        }
        _ => return Operand::of(&rms_norm(&x.tensor()?, weight, eps)?, takes),
    };
    let weight = CpuNumbers::of(weight)?;
    let norm = rows::Norm::Rms { weight: &weight, eps };
    let packed = rows::norm_packed(Isa::current(), norm, x.numbers()?, None, packing);
    Ok(Operand(Inner::Packed(packed)))
}

/// The plain form of [`rms_norm`].
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn plain_rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let mean = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    x.broadcast_div(&mean)?.broadcast_mul(weight)
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` of each row of `[n, width]`.
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f32) -> Result<Tensor> {
    matrix(x, weight.dims1()?, "layer_norm")?;
    if x.device().is_cuda() {
        return Ok(gpu::rows::layer_norm(x, weight, bias, eps, DType::F32)?.1);
    }
    if !x.device().is_cpu() {
        return plain_layer_norm(x, weight, bias, eps);
    }
    let bias = bias.map(CpuNumbers::of).transpose()?;
    let mut out = vec![0.0; x.elem_count()];
    let (numbers, weight) = (CpuNumbers::of(x)?, CpuNumbers::of(weight)?);
    let norm = rows::Norm::Layer { weight: &weight, bias: bias.as_deref(), eps };
    rows::norm(Isa::current(), norm, &numbers, &mut out);
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// As [`layer_norm`], as rows and as a linear layer takes it.
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn layer_norm_for(
    x: &Rows,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f32,
    takes: Takes,
) -> Result<(Rows, Operand)> {
    check(x, weight, "layer_norm")?;
    let packing = match (takes.0, x.as_plain()) {
        (How::Packed(packing), _) => packing,
        (How::Plain(dtype), Some(x)) if x.device().is_cuda() => {
            let (normed, operand) = gpu::rows::layer_norm(x, weight, bias, eps, dtype)?;
            return Ok((Rows::plain(normed), Operand(Inner::Plain(operand))));
        }
        _ => {
            let normed = layer_norm(&x.tensor()?, weight, bias, eps)?;
            let operand = Operand::of(&normed, takes)?;
            return Ok((Rows::plain(normed), operand));
        }
    };
    let bias = bias.map(CpuNumbers::of).transpose()?;
    let [count, width] = x.shape()?;
    let mut out = Rows::cpu(count, width);
    let (weight, numbers) = (CpuNumbers::of(weight)?, out.numbers_mut()?);
    let norm = rows::Norm::Layer { weight: &weight, bias: bias.as_deref(), eps };
    let packed = rows::norm_packed(Isa::current(), norm, x.numbers()?, Some(numbers), packing);
    Ok((out, Operand(Inner::Packed(packed))))
}

fn check(x: &Rows, weight: &Tensor, what: &str) -> Result<()> {
    let ([_, found], width) = (x.shape()?, weight.dims1()?);
    if found != width {
        bail!("{what}: expected rows of {width} numbers, found {found}");
    }
    Ok(())
}

/// The plain form of [`layer_norm`].
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn plain_layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f32,
) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    let out = centred.broadcast_div(&deviation)?.broadcast_mul(weight)?;
    bias.map_or(Ok(out.clone()), |bias| out.broadcast_add(bias))
}
