//! Root-mean-square norm and layer norm, row by row.

use candle_core::{DType, Device, Result, Tensor, bail};

use super::linear_input::{Inner, InputLayout, LinearInput};
use super::rows::Rows;
use super::{Backend, CpuSlice, matrix};
use crate::cpu::{Isa, rowwise};
use crate::cuda::launch;
use crate::reference;

/// `x / sqrt(mean(x^2) + eps) * weight` of each row of `[n, width]`.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    matrix(x, weight.dims1()?, "rms_norm")?;
    match Backend::of(x.device()) {
        Backend::Cpu => {
            let mut out = vec![0.0; x.elem_count()];
            let weight = CpuSlice::of(weight)?;
            let norm = rowwise::Norm::Rms { weight: &weight, eps };
            rowwise::norm(Isa::current(), norm, &CpuSlice::of(x)?, &mut out);
            Tensor::from_vec(out, x.shape(), &Device::Cpu)
        }
        Backend::Cuda => launch::rows::rms_norm(x, weight, eps, DType::F32),
        Backend::Reference => reference::norm::rms_norm(x, weight, eps),
    }
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
    Ok(LinearInput(match x.backend() {
        Backend::Cpu => {
            let (x, weight) = (x.elements()?, CpuSlice::of(weight)?);
            let norm = rowwise::Norm::Rms { weight: &weight, eps };
            let packing = layout.packing()?;
            Inner::Packed(rowwise::norm_packed(Isa::current(), norm, x, None, packing))
        }
        Backend::Cuda => {
            let (x, dtype) = (x.device_tensor()?, layout.dtype()?);
            Inner::Tensor(launch::rows::rms_norm(x, weight, eps, dtype)?)
        }
        Backend::Reference => {
            let normed = reference::norm::rms_norm(&x.tensor()?, weight, eps)?;
            Inner::Tensor(normed.to_dtype(layout.dtype()?)?)
        }
    }))
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` of each row of `[n, width]`.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f32) -> Result<Tensor> {
    matrix(x, weight.dims1()?, "layer_norm")?;
    match Backend::of(x.device()) {
        Backend::Cpu => {
            let mut out = vec![0.0; x.elem_count()];
            let (weight, bias) = (CpuSlice::of(weight)?, bias.map(CpuSlice::of).transpose()?);
            let norm = rowwise::Norm::Layer { weight: &weight, bias: bias.as_deref(), eps };
            rowwise::norm(Isa::current(), norm, &CpuSlice::of(x)?, &mut out);
            Tensor::from_vec(out, x.shape(), &Device::Cpu)
        }
        Backend::Cuda => Ok(launch::rows::layer_norm(x, weight, bias, eps, DType::F32)?.1),
        Backend::Reference => reference::norm::layer_norm(x, weight, bias, eps),
    }
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
    match x.backend() {
        Backend::Cpu => {
            let [count, width] = x.shape()?;
            let mut out = Rows::cpu(count, width);
            let (weight, bias) = (CpuSlice::of(weight)?, bias.map(CpuSlice::of).transpose()?);
            let norm = rowwise::Norm::Layer { weight: &weight, bias: bias.as_deref(), eps };
            let (from, to, packing) = (x.elements()?, out.elements_mut()?, layout.packing()?);
            let packed = rowwise::norm_packed(Isa::current(), norm, from, Some(to), packing);
            Ok((out, LinearInput(Inner::Packed(packed))))
        }
        Backend::Cuda => {
            let (x, dtype) = (x.device_tensor()?, layout.dtype()?);
            let (normed, input) = launch::rows::layer_norm(x, weight, bias, eps, dtype)?;
            Ok((Rows::on_device(normed), LinearInput(Inner::Tensor(input))))
        }
        Backend::Reference => {
            let normed = reference::norm::layer_norm(&x.tensor()?, weight, bias, eps)?;
            let input = normed.to_dtype(layout.dtype()?)?;
            Ok((Rows::on_device(normed), LinearInput(Inner::Tensor(input))))
        }
    }
}

fn check(x: &Rows, weight: &Tensor, what: &str) -> Result<()> {
    let ([_, found], width) = (x.shape()?, weight.dims1()?);
    if found != width {
        bail!("{what}: expected rows of {width} elements, found {found}");
    }
    Ok(())
}
