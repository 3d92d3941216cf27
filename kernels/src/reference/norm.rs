//! Root-mean-square norm and layer norm.

use candle_core::{D, Result, Tensor};

/// `x / sqrt(mean(x^2) + eps) * weight` of each row.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let mean = (x.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    x.broadcast_div(&mean)?.broadcast_mul(weight)
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` of each row.
///
/// # Errors
/// Mismatched shapes, or a device failure.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f32) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + f64::from(eps))?.sqrt()?;
    let out = centred.broadcast_div(&deviation)?.broadcast_mul(weight)?;
    bias.map_or(Ok(out.clone()), |bias| out.broadcast_add(bias))
}
