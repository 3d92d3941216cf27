//! Linear layers with bias, activation, gate and residual.

use candle_core::{DType, Result, Tensor};

use crate::spec::Activation;

/// `act(x W^T + bias) + residual` of `x` `[n, depth]` and `weights` `[columns, depth]`.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn linear(
    x: &Tensor,
    weights: &Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let mut out = x.to_dtype(weights.dtype())?.matmul(&weights.t()?)?.to_dtype(DType::F32)?;
    if let Some(bias) = bias {
        out = out.broadcast_add(bias)?;
    }
    if let Some(activation) = activation {
        out = activate(&out, activation)?;
    }
    residual.map_or(Ok(out.clone()), |residual| out + residual)
}

/// `act(x G^T) * (x V^T)`, where rows of `G` and `V` alternate in groups of `group` in `weights`.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn gated(x: &Tensor, weights: &Tensor, group: usize, activation: Activation) -> Result<Tensor> {
    let both = linear(x, weights, None, None, None)?;
    let (rows, width) = both.dims2()?;
    let both = both.reshape((rows, width / 2 / group, 2, group))?;
    let gate = activate(&both.narrow(2, 0, 1)?, activation)?;
    (gate * both.narrow(2, 1, 1)?)?.reshape((rows, width / 2))
}

fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Gelu => x.gelu_erf(),
        Activation::GeluTanh => x.gelu(),
        Activation::Silu => x.silu(),
        Activation::Relu => x.relu(),
        Activation::Tanh => x.tanh(),
    }
}
