//! Root-mean-square norm and layer norm, row by row.

use candle_core::{D, Device, Result, Tensor};

use super::{CpuNumbers, matrix};
use crate::cpu::{Isa, rows};

/// `x / sqrt(mean(x^2) + eps) * weight` of each row of `[n, width]`.
///
/// # Errors
/// Shapes that disagree, or a failure of the device.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    matrix(x, weight.dims1()?, "rms_norm")?;
    if !x.device().is_cpu() {
        return plain_rms_norm(x, weight, eps);
    }
    let mut out = vec![0.0; x.elem_count()];
    rows::rms_norm(Isa::current(), &CpuNumbers::of(x)?, &CpuNumbers::of(weight)?, eps, &mut out);
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
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
    if !x.device().is_cpu() {
        return plain_layer_norm(x, weight, bias, eps);
    }
    let bias = bias.map(CpuNumbers::of).transpose()?;
    let mut out = vec![0.0; x.elem_count()];
    let (numbers, weight) = (CpuNumbers::of(x)?, CpuNumbers::of(weight)?);
    rows::layer_norm(Isa::current(), &numbers, &weight, bias.as_deref(), eps, &mut out);
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
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
