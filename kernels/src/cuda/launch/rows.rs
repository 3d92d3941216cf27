//! Row-wise operations: norms, rotary positions, gates, activations.
//!
//! Must not know: GEMMs, attention.

use candle_core::{DType, Result, Tensor, bail};

use super::{
    Call, WARP, aligned, at, at_or_null, empty, float32, int, long, recording, uploaded, warps,
};
use crate::cuda::{Argument, Launch};
use crate::spec::{Activation, HeadNorms, Heads};

/// With this many rows, one warp per row keeps a device busy.
const ROWS_MANY: usize = 8192;

/// `x / sqrt(mean(x^2) + eps) * weight` of each row, in this dtype.
pub(crate) fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32, dtype: DType) -> Result<Tensor> {
    let x = float32(x)?;
    let (rows, width) = x.dims2()?;
    let out = empty((rows, width), dtype, x.device())?;
    let call = Call { source: "norm", operation: "rms_norm", dtype, device: x.device() };
    let arguments = [at(&x)?, at(weight)?, eps.into(), int(rows)?, int(width)?, at(&out)?];
    // SAFETY: the arguments match `rms_norm`'s parameters; `x` and `out` are `[rows, width]`, the
    // caller has checked that `weight` is `[width]`, and memory is freed in stream order.
    unsafe { call.launch(warps(rows), &arguments) }?;
    Ok(out)
}

/// `x + added` in float32, and its [`rms_norm`] in the dtype of `added`.
pub(crate) fn add_rms_norm(
    x: &Tensor,
    added: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<(Tensor, Tensor)> {
    let (x, added) = (float32(x)?, aligned(added)?);
    let ((rows, width), dtype) = (x.dims2()?, added.dtype());
    if added.dims() != [rows, width] || weight.dims() != [width] {
        let (added, weight) = (added.shape(), weight.shape());
        bail!("rows {added:?} added to {rows} x {width}, with weights {weight:?} of a norm");
    }
    let sums = empty((rows, width), DType::F32, x.device())?;
    let out = empty((rows, width), dtype, x.device())?;
    let device = x.device();
    let call = Call { source: "norm", operation: "add_rms_norm", dtype, device };
    let (count, columns) = (int(rows)?, int(width)?);
    let (x, added, weight) = (at(&x)?, at(&added)?, at(weight)?);
    let arguments = [x, added, weight, eps.into(), count, columns, at(&sums)?, at(&out)?];
    // SAFETY: the arguments match `add_rms_norm`'s parameters; the shapes were checked above, and
    // memory is freed in stream order.
    unsafe { call.launch(warps(rows), &arguments) }?;
    Ok((sums, out))
}

/// `(x - mean) / sqrt(variance + eps) * weight + bias` of each row, in float32 and in this dtype.
pub(crate) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f32,
    dtype: DType,
) -> Result<(Tensor, Tensor)> {
    let x = float32(x)?;
    let (rows, width) = x.dims2()?;
    let out = empty((rows, width), dtype, x.device())?;
    let normed = match dtype {
        DType::F32 => None,
        _ => Some(empty((rows, width), DType::F32, x.device())?),
    };
    let call = Call { source: "norm", operation: "layer_norm", dtype, device: x.device() };
    let arguments = [
        at(&x)?,
        at(weight)?,
        at_or_null(bias)?,
        eps.into(),
        int(rows)?,
        int(width)?,
        at_or_null(normed.as_ref())?,
        at(&out)?,
    ];
    // SAFETY: the arguments match `layer_norm`'s parameters; matrices are `[rows, width]`, the
    // caller has checked that `weight` and `bias` are `[width]`, and memory is freed in stream
    // order.
    unsafe { call.launch(warps(rows), &arguments) }?;
    Ok((normed.unwrap_or_else(|| out.clone()), out))
}

/// Norms and rotates the queries and keys of `qkv` in place; `qkv` must not be shared. The caller
/// has checked that there is one position per row, and that the tables cover all of them.
pub(crate) fn rotary(
    qkv: Tensor,
    heads: Heads,
    norms: Option<&HeadNorms>,
    positions: &[u32],
    cos: &Tensor,
    sin: &Tensor,
) -> Result<Tensor> {
    let qkv = aligned(&qkv)?;
    let rows = positions.len();
    let positions = uploaded(positions, qkv.device())?;
    // Held, because tables are replaced when longer ones are needed.
    recording::hold(cos);
    recording::hold(sin);
    let turned = heads.heads + heads.kv_heads;
    // In the wide kernel, a lane takes 16 elements of a head.
    let wide = matches!(heads.size, 16 | 32 | 64 | 128 | 256);
    let at_a_time = (WARP * 16 / heads.size).max(1);
    let parts = if rows < ROWS_MANY { turned.div_ceil(at_a_time) } else { 1 };
    let operation = if wide { "rotary_wide" } else { "rotary" };
    let call = Call { source: "rotary", operation, dtype: qkv.dtype(), device: qkv.device() };
    let mut arguments = vec![at(&qkv)?, int(rows)?];
    if wide {
        arguments.push(int(parts)?);
    }
    arguments.extend([
        int(heads.heads)?,
        int(heads.kv_heads)?,
        int(heads.size)?,
        at_or_null(norms.map(|norms| &norms.queries))?,
        at_or_null(norms.map(|norms| &norms.keys))?,
        norms.map_or(0.0, |norms| norms.eps).into(),
        at(&positions)?,
        at(cos)?,
        at(sin)?,
    ]);
    let count = rows * if wide { parts } else { turned };
    // SAFETY: the arguments match the parameters of `rotary` or `rotary_wide`; the caller has
    // checked the shapes and that the tables have a row for every position, and `qkv` is not
    // shared.
    unsafe { call.launch(warps(count), &arguments) }?;
    Ok(qkv)
}

/// `act(gate) * value` for rows in which groups of 16 gates and 16 values alternate.
pub(crate) fn gated(both: &Tensor, activation: Activation) -> Result<Tensor> {
    let both = aligned(both)?;
    let (rows, double) = both.dims2()?;
    let width = double / 2;
    let out = empty((rows, width), both.dtype(), both.device())?;
    let call =
        Call { source: "gated", operation: "gated", dtype: both.dtype(), device: both.device() };
    let arguments = [at(&both)?, long(rows), int(width)?, number(Some(activation)), at(&out)?];
    // SAFETY: the arguments match `gated`'s parameters; `both` is `[rows, 2 width]`, `out` is
    // `[rows, width]`, and widths are multiples of 16, as `GatedLinear` pads them.
    unsafe { call.launch(elements(rows * width), &arguments) }?;
    Ok(out)
}

/// Adds a bias to `x` and applies the activation, in place; `x` must not be shared.
pub(crate) fn epilogue(
    x: Tensor,
    bias: Option<&Tensor>,
    activation: Option<Activation>,
) -> Result<Tensor> {
    if bias.is_none() && activation.is_none() {
        return Ok(x);
    }
    let (rows, width) = x.dims2()?;
    let call =
        Call { source: "epilogue", operation: "epilogue", dtype: x.dtype(), device: x.device() };
    let arguments = [at(&x)?, long(rows), int(width)?, at_or_null(bias)?, number(activation)];
    // SAFETY: the arguments match `epilogue`'s parameters; `x` is `[rows, width]` and not shared,
    // and `bias` is `[width]`, as layers are constructed.
    unsafe { call.launch(elements(rows * width), &arguments) }?;
    Ok(x)
}

/// The kernels' number for an activation.
fn number(activation: Option<Activation>) -> Argument {
    Argument::Int(match activation {
        None => -1,
        Some(Activation::Gelu) => 0,
        Some(Activation::GeluTanh) => 1,
        Some(Activation::Silu) => 2,
        Some(Activation::Relu) => 3,
        Some(Activation::Tanh) => 4,
    })
}

/// Blocks for `count` elements; each thread handles several.
fn elements(count: usize) -> Launch {
    /// Elements that a block handles before it loops.
    const BLOCK_NUMBERS: usize = 2048;
    /// Enough blocks to keep a large device busy.
    const BLOCKS_MAX: usize = 1 << 14;
    let blocks = count.div_ceil(BLOCK_NUMBERS).min(BLOCKS_MAX);
    Launch { grid: [blocks as u32, 1, 1], block: [256, 1, 1], shared_bytes: 0 }
}
