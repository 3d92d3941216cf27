//! Weights packed for GEMM, once at load.
//!
//! Must not know: layers, tensors, files.

use half::f16;

use super::micro_kernel::{DEPTH_UNIT, PANEL_COLUMNS, WeightFormat};
use crate::cpu::buffer::aligned::{AlignedBytes, cast_mut};
use crate::cpu::buffer::shared::SharedMut;
use crate::cpu::isa::Isa;
use crate::cpu::isa::simd::{LANES, Simd, SimdOp};
use crate::cpu::thread_pool;

/// Weights `[columns, depth]` in zero-padded panels of 32 columns.
#[derive(Debug)]
pub struct PackedRhs {
    bytes: AlignedBytes,
    format: WeightFormat,
    columns: usize,
    depth: usize,
    /// One per column of each panel for `WeightFormat::I8`, else empty.
    bytes_scale: Vec<ByteScale>,
}

/// How to dequantize the sums of a column of int8 weights.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::cpu) struct ByteScale {
    /// The column's scale.
    pub scale: f32,
    /// The sum of the column's bytes. Every sum of products contains it times the row's zero point.
    pub sum: i32,
}

impl PackedRhs {
    /// Packs weights row by row: `fill_row(n, row)` writes the weights of output `n` into `row`,
    /// which holds `depth` zeros.
    pub fn new(
        format: WeightFormat,
        columns: usize,
        depth: usize,
        fill_row: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let panels = columns.div_ceil(PANEL_COLUMNS);
        let panel_bytes = PANEL_COLUMNS * format.bytes() * depth.next_multiple_of(DEPTH_UNIT);
        let mut bytes = AlignedBytes::zeros(panels * panel_bytes);
        let mut bytes_scale = vec![ByteScale::default(); panels * PANEL_COLUMNS];
        if depth > 0 {
            let scales = SharedMut::new(&mut bytes_scale);
            let isa = Isa::current();
            thread_pool::for_each_part(&mut bytes, panel_bytes, |panel, to| {
                let first = panel * PANEL_COLUMNS;
                // SAFETY: a panel's scales belong to the task that packs the panel.
                let scales = unsafe { scales.part(first, PANEL_COLUMNS) };
                let mut row = vec![0.0; depth.next_multiple_of(LANES)];
                for column in first..columns.min(first + PANEL_COLUMNS) {
                    row.fill(0.0);
                    fill_row(column, &mut row[..depth]);
                    let (row, column) = (&row[..], column - first);
                    scales[column] = isa.run(PackColumn { format, row, depth, column, to });
                }
            });
        }
        if format != WeightFormat::I8 {
            bytes_scale = Vec::new();
        }
        Self { bytes, format, columns, depth, bytes_scale }
    }

    /// Number of outputs.
    #[inline]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of inputs.
    #[inline]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The packed format.
    #[inline]
    pub fn format(&self) -> WeightFormat {
        self.format
    }

    /// Bytes of all weights.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of 32 columns of this depth.
    #[inline]
    pub(in crate::cpu) fn bytes_of(&self, depth: usize) -> usize {
        PANEL_COLUMNS * self.format.bytes() * depth
    }

    /// The bytes of a panel.
    #[inline]
    pub(in crate::cpu) fn panel(&self, panel: usize) -> &[u8] {
        let bytes = self.bytes_of(self.depth.next_multiple_of(DEPTH_UNIT));
        &self.bytes[panel * bytes..(panel + 1) * bytes]
    }

    /// Dequantization parameters of a panel; empty unless the format is `WeightFormat::I8`.
    #[inline]
    pub(in crate::cpu) fn scales(&self, panel: usize) -> &[ByteScale] {
        self.bytes_scale.get(panel * PANEL_COLUMNS..(panel + 1) * PANEL_COLUMNS).unwrap_or_default()
    }
}

/// Writes one column into its panel.
struct PackColumn<'a> {
    format: WeightFormat,
    /// Zero-padded to whole vectors.
    row: &'a [f32],
    depth: usize,
    column: usize,
    to: &'a mut [u8],
}

impl SimdOp for PackColumn<'_> {
    type Output = ByteScale;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> ByteScale {
        let Self { format, row, depth, column, to } = self;
        let mut packed = [0u16; LANES];
        match format {
            WeightFormat::F32 => {
                let to = &mut cast_mut::<f32>(to)[column..];
                to.iter_mut()
                    .step_by(PANEL_COLUMNS)
                    .zip(&row[..depth])
                    .for_each(|(to, value)| *to = *value);
            }
            WeightFormat::F16 => {
                let to = &mut cast_mut::<u16>(to)[column..];
                let values = row[..depth].iter().map(|value| f16::from_f32(*value).to_bits());
                to.iter_mut()
                    .step_by(PANEL_COLUMNS)
                    .zip(values)
                    .for_each(|(to, value)| *to = value);
            }
            WeightFormat::Bf16 => {
                let to = cast_mut::<u16>(to);
                for (piece, values) in row.chunks_exact(LANES).enumerate() {
                    // SAFETY: the array has room for 16 elements.
                    unsafe { s.store_bf16(packed.as_mut_ptr(), s.load_part(values)) };
                    spread(&packed, piece * LANES * PANEL_COLUMNS + 2 * column, to);
                }
            }
            WeightFormat::Split2 => {
                let to = cast_mut::<u16>(to);
                for (piece, values) in row.chunks_exact(LANES).enumerate() {
                    let at = format.index(piece * LANES, column);
                    let values = s.load_part(values);
                    let first = s.round_bf16(values);
                    // SAFETY: the array has room for 16 elements.
                    unsafe { s.store_bf16(packed.as_mut_ptr(), first) };
                    spread(&packed, at, to);
                    // SAFETY: as above.
                    unsafe { s.store_bf16(packed.as_mut_ptr(), s.sub(values, first)) };
                    spread(&packed, at + 32 * PANEL_COLUMNS, to);
                }
            }
            WeightFormat::I8 => return pack_bytes(s, row, column, to),
        }
        ByteScale::default()
    }
}

/// Scatters 16 elements from index `first` on, in pairs that are one step apart.
#[inline(always)]
fn spread(values: &[u16; LANES], first: usize, to: &mut [u16]) {
    for (step, pair) in values.chunks_exact(2).enumerate() {
        to[first + step * 2 * PANEL_COLUMNS..][..2].copy_from_slice(pair);
    }
}

/// Quantizes one column to bytes: the largest magnitude becomes 127.
#[inline(always)]
fn pack_bytes<S: Simd>(s: S, row: &[f32], column: usize, to: &mut [u8]) -> ByteScale {
    let zero = s.splat(0.0);
    let (mut largest, mut bad) = (zero, zero);
    for values in row.chunks_exact(LANES) {
        let values = s.load_part(values);
        largest = s.max(largest, s.max(values, s.sub(zero, values)));
        // NaN if any weight is NaN or infinite: the column's outputs are then all NaN.
        bad = s.fma(values, zero, bad);
    }
    let largest = s.largest(largest) + s.sum(bad);
    // A column too small to invert is negligible next to any other: all zero.
    let inverse = 127.0 / largest;
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let (mut bytes, mut sum) = ([0u8; LANES], 0);
    for (piece, values) in row.chunks_exact(LANES).enumerate() {
        let scaled = s.round(s.mul(s.load_part(values), s.splat(inverse)));
        let value = s.min(s.max(s.add(scaled, s.splat(128.0)), s.splat(1.0)), s.splat(255.0));
        // SAFETY: the array has room for 16 bytes.
        unsafe { s.store_u8(bytes.as_mut_ptr(), value) };
        for (step, four) in bytes.chunks_exact(4).enumerate() {
            let at = (piece * LANES / 4 + step) * 4 * PANEL_COLUMNS + 4 * column;
            for (to, byte) in to[at..at + 4].iter_mut().zip(four) {
                *to = byte.wrapping_sub(128);
                sum += i32::from(*to as i8);
            }
        }
    }
    ByteScale { scale: largest / 127.0, sum }
}
