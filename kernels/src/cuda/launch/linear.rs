//! GEMMs of linear layers, with their epilogues.
//!
//! Must not know: layers, how weights came to the device.

use candle_core::{DType, Result, Tensor};

use super::{aligned, empty, float32, rows};
use crate::cuda::{self, Gemm};
use crate::spec::Activation;

/// `act(x W^T + bias) + residual`, for `x` in the weights' dtype. The result is float32 with a
/// residual, else in the weights' dtype. The caller has checked the shapes.
pub(crate) fn linear(
    x: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let (x, residual) = (aligned(x)?, residual.map(float32).transpose()?);
    let product = Gemm { x: &x, weights, bias: None, added: None };
    match &residual {
        None => {
            let out = multiplied(&product, weights.dtype())?;
            rows::epilogue(out, bias, activation)
        }
        Some(residual) if activation.is_none() => {
            multiplied(&Gemm { bias, added: Some(residual), ..product }, DType::F32)
        }
        Some(residual) => {
            let out = multiplied(&product, DType::F32)?;
            rows::epilogue(out, bias, activation)? + residual
        }
    }
}

/// `residual + x W^T + bias` in float32, and its norm in the weights' dtype; `x W^T + bias` is
/// rounded to that dtype before it is added.
pub(crate) fn add_and_norm(
    x: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    residual: &Tensor,
    norm_weight: &Tensor,
    eps: f32,
) -> Result<(Tensor, Tensor)> {
    let added = linear(x, weights, bias, None, None)?;
    rows::add_rms_norm(residual, &added, norm_weight, eps)
}

/// `act(gate) * value`, for weights whose rows alternate in groups of gates and values.
pub(crate) fn gated(x: &Tensor, weights: &Tensor, activation: Activation) -> Result<Tensor> {
    let x = aligned(x)?;
    let product = Gemm { x: &x, weights, bias: None, added: None };
    rows::gated(&multiplied(&product, weights.dtype())?, activation)
}

/// A GEMM with a result of this dtype.
fn multiplied(product: &Gemm<'_>, dtype: DType) -> Result<Tensor> {
    let shape = (product.x.dim(0)?, product.weights.dim(0)?);
    let out = empty(shape, dtype, product.x.device())?;
    cuda::gemm(product, &out)?;
    Ok(out)
}
