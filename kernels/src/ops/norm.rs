//! Root-mean-square norm and layer norm, row by row.

use candle_core::{D, DType, Device, Result, Tensor, bail};

use super::linear_input::{Inner, InputLayout, LayoutKind, LinearInput};
use super::rows::Rows;
use super::{CpuSlice, matrix};
use crate::cpu::{Isa, rowwise};
use crate::cuda::launch;

/// `x / sqrt(mean(x^2) + eps) * weight` of each row of `[n, width]`.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    matrix(x, weight.dims1()?, "rms_norm")?;
    if x.device().is_cuda() {
        return launch::rows::rms_norm(x, weight, eps, DType::F32);
    }
    if !x.device().is_cpu() {
        return plain_rms_norm(x, weight, eps);
    }
    let mut out = vec![0.0; x.elem_count()];
    let weight = CpuSlice::of(weight)?;
    let norm = rowwise::Norm::Rms { weight: &weight, eps };
    rowwise::norm(Isa::current(), norm, &CpuSlice::of(x)?, &mut out);
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// As [`rms_norm`], with the result in a linear layer's input layout.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn rms_norm_for(
    x: &Rows,
    weight: &Tensor,
    eps: f32,
    layout: InputLayout,
) -> Result<LinearInput> {
    check(x, weight, "rms_norm")?;
    let packing = match (layout.0, x.as_plain()) {
        (LayoutKind::Packed(packing), _) => packing,
        (LayoutKind::Plain(dtype), Some(x)) if x.device().is_cuda() => {
            return Ok(LinearInput(Inner::Plain(launch::rows::rms_norm(x, weight, eps, dtype)?)));
        }
        _ => return LinearInput::of(&rms_norm(&x.tensor()?, weight, eps)?, layout),
    };
    let weight = CpuSlice::of(weight)?;
    let norm = rowwise::Norm::Rms { weight: &weight, eps };
    let packed = rowwise::norm_packed(Isa::current(), norm, x.elements()?, None, packing);
    Ok(LinearInput(Inner::Packed(packed)))
}

/// The plain form of [`rms_norm`].
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn plain_rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let mean = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    x.broadcast_div(&mean)?.broadcast_mul(weight)
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` of each row of `[n, width]`.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f32) -> Result<Tensor> {
    matrix(x, weight.dims1()?, "layer_norm")?;
    if x.device().is_cuda() {
        return Ok(launch::rows::layer_norm(x, weight, bias, eps, DType::F32)?.1);
    }
    if !x.device().is_cpu() {
        return plain_layer_norm(x, weight, bias, eps);
    }
    let bias = bias.map(CpuSlice::of).transpose()?;
    let mut out = vec![0.0; x.elem_count()];
    let (numbers, weight) = (CpuSlice::of(x)?, CpuSlice::of(weight)?);
    let norm = rowwise::Norm::Layer { weight: &weight, bias: bias.as_deref(), eps };
    rowwise::norm(Isa::current(), norm, &numbers, &mut out);
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// As [`layer_norm`], with the result both as rows and in a linear layer's input layout.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn layer_norm_for(
    x: &Rows,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f32,
    layout: InputLayout,
) -> Result<(Rows, LinearInput)> {
    check(x, weight, "layer_norm")?;
    let packing = match (layout.0, x.as_plain()) {
        (LayoutKind::Packed(packing), _) => packing,
        (LayoutKind::Plain(dtype), Some(x)) if x.device().is_cuda() => {
            let (normed, packed) = launch::rows::layer_norm(x, weight, bias, eps, dtype)?;
            return Ok((Rows::plain(normed), LinearInput(Inner::Plain(packed))));
        }
        _ => {
            let normed = layer_norm(&x.tensor()?, weight, bias, eps)?;
            let packed = LinearInput::of(&normed, layout)?;
            return Ok((Rows::plain(normed), packed));
        }
    };
    let bias = bias.map(CpuSlice::of).transpose()?;
    let [count, width] = x.shape()?;
    let mut out = Rows::cpu(count, width);
    let (weight, numbers) = (CpuSlice::of(weight)?, out.elements_mut()?);
    let norm = rowwise::Norm::Layer { weight: &weight, bias: bias.as_deref(), eps };
    let packed = rowwise::norm_packed(Isa::current(), norm, x.elements()?, Some(numbers), packing);
    Ok((out, LinearInput(Inner::Packed(packed))))
}

fn check(x: &Rows, weight: &Tensor, what: &str) -> Result<()> {
    let ([_, found], width) = (x.shape()?, weight.dims1()?);
    if found != width {
        bail!("{what}: expected rows of {width} elements, found {found}");
    }
    Ok(())
}

/// The plain form of [`layer_norm`].
///
/// # Errors
/// Mismatched shapes, or a device failure.
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
