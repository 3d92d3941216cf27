//! Rotary position embeddings (RoPE), with the norms of queries and keys that precede them.

use candle_core::{Device, Result, Tensor, bail};

use super::rows::Rows;
use super::{Backend, CpuSlice};
use crate::cpu::{Isa, rowwise};
use crate::cuda::launch;
use crate::reference;
use crate::spec::{HeadNorms, Heads};

/// Cosines and sines of every position's angles, `[positions, size/2]` each, float32.
#[derive(Debug, Clone)]
pub struct RotaryTables {
    cos: Tensor,
    sin: Tensor,
    /// The same tables on the CPU, from which others are [gathered](Self::gathered).
    stored: [Tensor; 2],
}

impl RotaryTables {
    /// Tables for positions `0..positions` and heads of `size` elements: angle `i` of position `p`
    /// is `p / theta^(2i/size)`; frequency and angle are rounded to float32, as in the reference.
    ///
    /// # Errors
    /// A device failure.
    pub fn new(positions: usize, size: usize, theta: f64, device: &Device) -> Result<Self> {
        let frequencies: Vec<f32> = (0..size / 2)
            .map(|index| (1.0 / theta.powf(2.0 * index as f64 / size as f64)) as f32)
            .collect();
        Self::of_frequencies(positions, &frequencies, 1.0, device)
    }

    /// Tables for positions `0..positions` where angle `i` of position `p` is `p` times frequency
    /// `i`; cosines and sines are multiplied by `scale`.
    ///
    /// # Errors
    /// A device failure.
    pub fn of_frequencies(
        positions: usize,
        frequencies: &[f32],
        scale: f32,
        device: &Device,
    ) -> Result<Self> {
        let half = frequencies.len();
        let table = |f: fn(f64) -> f64| {
            let values = (0..positions * half).map(|at| {
                let angle = f64::from((at / half) as f32 * frequencies[at % half]);
                f(angle) as f32 * scale
            });
            Tensor::from_vec(values.collect::<Vec<f32>>(), (positions, half), &Device::Cpu)
        };
        Self::of([table(f64::cos)?, table(f64::sin)?], device)
    }

    /// From cosines and sines on the CPU.
    fn of(stored: [Tensor; 2], device: &Device) -> Result<Self> {
        let [cos, sin] = &stored;
        Ok(Self { cos: cos.to_device(device)?, sin: sin.to_device(device)?, stored })
    }

    /// Tables with one row for each element of `rows`, which holds `N` positions: angle `i` of a
    /// row is that of frequency `streams[i].1` at position number `streams[i].0` of the `N`.
    /// Multi-dimensional rotary positions thus become one-dimensional, row by row.
    ///
    /// # Errors
    /// A position or frequency beyond these tables, or a device failure.
    pub fn gathered<const N: usize>(
        &self,
        rows: &[[u32; N]],
        streams: &[(usize, usize)],
    ) -> Result<Self> {
        let (positions, half) = self.cos.dims2()?;
        let largest = rows.iter().flatten().max().copied().unwrap_or(0);
        if largest as usize >= positions
            || streams.iter().any(|(stream, frequency)| *stream >= N || *frequency >= half)
        {
            bail!(
                "rotary: position {largest} or a stream is beyond tables of {positions} x {half}"
            );
        }
        let table = |table: &Tensor| -> Result<Tensor> {
            let elements = CpuSlice::of(table)?;
            let mut gathered = Vec::with_capacity(rows.len() * streams.len());
            for positions in rows {
                gathered.extend(streams.iter().map(|(stream, frequency)| {
                    elements[positions[*stream] as usize * half + frequency]
                }));
            }
            Tensor::from_vec(gathered, (rows.len(), streams.len()), table.device())
        };
        let [cos, sin] = &self.stored;
        Self::of([table(cos)?, table(sin)?], self.cos.device())
    }

    /// Cosines and sines, on the tables' device.
    pub fn tables(&self) -> [&Tensor; 2] {
        [&self.cos, &self.sin]
    }

    /// The number of positions.
    pub fn positions(&self) -> usize {
        self.cos.dims().first().copied().unwrap_or(0)
    }
}

/// Applies the norms, if given, and rotates queries and keys by their positions, in the half-split
/// layout; values are unchanged. `qkv` is `[n_tokens, row]` in the layout of [`Heads`].
///
/// # Errors
/// Mismatched shapes, a position beyond the tables, or a device failure.
pub fn rotary(
    qkv: Rows,
    heads: Heads,
    norms: Option<&HeadNorms>,
    positions: &[u32],
    tables: &RotaryTables,
) -> Result<Rows> {
    if qkv.shape()? != [positions.len(), heads.row()] || positions.is_empty() {
        bail!(
            "rotary: rows have shape {:?}, expected [{}, {}]",
            qkv.shape()?,
            positions.len(),
            heads.row()
        );
    }
    if positions.iter().any(|position| *position as usize >= tables.positions()) {
        bail!("rotary: a position is out of range for tables of {}", tables.positions());
    }
    match qkv.backend() {
        Backend::Cpu => rotary_on_cpu(qkv, heads, norms, positions, tables),
        Backend::Cuda => {
            let [cos, sin] = tables.tables();
            let qkv = qkv.into_device_tensor()?;
            let turned = launch::rows::rotary(qkv, heads, norms, positions, cos, sin)?;
            Ok(Rows::on_device(turned))
        }
        Backend::Reference => {
            let qkv = qkv.device_tensor()?;
            let turned = reference::rotary::rotary(qkv, heads, norms, positions, tables.tables())?;
            Ok(Rows::on_device(turned))
        }
    }
}

fn rotary_on_cpu(
    mut qkv: Rows,
    heads: Heads,
    norms: Option<&HeadNorms>,
    positions: &[u32],
    tables: &RotaryTables,
) -> Result<Rows> {
    let weights = norms.map(|norms| -> Result<_> {
        Ok((CpuSlice::of(&norms.queries)?, CpuSlice::of(&norms.keys)?, norms.eps))
    });
    let weights = weights.transpose()?;
    let heads = rowwise::RotaryHeads {
        counts: [heads.heads, heads.kv_heads],
        norms: weights.as_ref().map(|(queries, keys, eps)| ([&**queries, &**keys], *eps)),
        size: heads.size,
    };
    let (cos, sin) = (CpuSlice::of(&tables.cos)?, CpuSlice::of(&tables.sin)?);
    rowwise::rotary(Isa::current(), qkv.elements_mut()?, heads, positions, &cos, &sin);
    Ok(qkv)
}
