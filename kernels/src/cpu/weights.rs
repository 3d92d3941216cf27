//! Weights as products take them, packed once at load.
//!
//! Must not know: layers, tensors, files.

use half::f16;

use super::aligned::{AlignedBytes, numbers_mut};
use super::isa::{Isa, Kernel};
use super::product::{DEPTH_UNIT, PANEL, WeightForm};
use super::shared::SharedMut;
use super::simd::{LANES, Simd};
use super::team;

/// Weights `[columns, depth]` in panels of 32 columns, filled up with zeros.
#[derive(Debug)]
pub struct Packed {
    bytes: AlignedBytes,
    form: WeightForm,
    columns: usize,
    depth: usize,
    /// Of `WeightForm::I8`, for each column of each panel.
    bytes_scale: Vec<ByteScale>,
}

/// What sums of a column of byte weights need to become numbers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ByteScale {
    /// What the column's numbers are multiplied by.
    pub scale: f32,
    /// The sum of the column's bytes, which every sum has once for each unit of the row's zero.
    pub sum: i32,
}

impl Packed {
    /// Packs rows given one after another: `fill_row(n, row)` writes the weights of output `n`
    /// into a row of `depth` zeros.
    pub fn new(
        form: WeightForm,
        columns: usize,
        depth: usize,
        fill_row: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        let panels = columns.div_ceil(PANEL);
        let panel_bytes = PANEL * form.bytes() * depth.next_multiple_of(DEPTH_UNIT);
        let mut bytes = AlignedBytes::zeros(panels * panel_bytes);
        let mut bytes_scale = vec![ByteScale::default(); panels * PANEL];
        if depth > 0 {
            let scales = SharedMut::new(&mut bytes_scale);
            let isa = Isa::current();
            team::for_each_part(&mut bytes, panel_bytes, |panel, to| {
                let first = panel * PANEL;
                // SAFETY: a panel's scales belong to the task that has the panel.
                let scales = unsafe { scales.part(first, PANEL) };
                let mut row = vec![0.0; depth.next_multiple_of(LANES)];
                for column in first..columns.min(first + PANEL) {
                    row.fill(0.0);
                    fill_row(column, &mut row[..depth]);
                    let (row, column) = (&row[..], column - first);
                    scales[column] = isa.run(PackColumn { form, row, depth, column, to });
                }
            });
        }
        if form != WeightForm::I8 {
            bytes_scale = Vec::new();
        }
        Self { bytes, form, columns, depth, bytes_scale }
    }

    /// Number of outputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of inputs.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// How numbers are packed.
    pub fn form(&self) -> WeightForm {
        self.form
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of 32 columns of as many depths.
    pub(super) fn bytes_of(&self, depth: usize) -> usize {
        PANEL * self.form.bytes() * depth
    }

    /// The bytes of a panel.
    pub(super) fn panel(&self, panel: usize) -> &[u8] {
        let bytes = self.bytes_of(self.depth.next_multiple_of(DEPTH_UNIT));
        &self.bytes[panel * bytes..(panel + 1) * bytes]
    }

    /// Scales of a panel of byte weights; empty for others.
    pub(super) fn scales(&self, panel: usize) -> &[ByteScale] {
        self.bytes_scale.get(panel * PANEL..(panel + 1) * PANEL).unwrap_or_default()
    }
}

/// Writes one column into its panel.
struct PackColumn<'a> {
    form: WeightForm,
    /// Filled up with zeros to whole vectors.
    row: &'a [f32],
    depth: usize,
    column: usize,
    to: &'a mut [u8],
}

impl Kernel for PackColumn<'_> {
    type Output = ByteScale;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> ByteScale {
        let Self { form, row, depth, column, to } = self;
        let mut packed = [0u16; LANES];
        match form {
            WeightForm::F32 => {
                let to = &mut numbers_mut::<f32>(to)[column..];
                to.iter_mut()
                    .step_by(PANEL)
                    .zip(&row[..depth])
                    .for_each(|(to, value)| *to = *value);
            }
            WeightForm::F16 => {
                let to = &mut numbers_mut::<u16>(to)[column..];
                let values = row[..depth].iter().map(|value| f16::from_f32(*value).to_bits());
                to.iter_mut().step_by(PANEL).zip(values).for_each(|(to, value)| *to = value);
            }
            WeightForm::Bf16 => {
                let to = numbers_mut::<u16>(to);
                for (piece, values) in row.chunks_exact(LANES).enumerate() {
                    // SAFETY: the array has room for 16 numbers.
                    unsafe { s.store_bf16(packed.as_mut_ptr(), s.load_part(values)) };
                    spread(&packed, piece * LANES * PANEL + 2 * column, to);
                }
            }
            WeightForm::Split2 => {
                let to = numbers_mut::<u16>(to);
                for (piece, values) in row.chunks_exact(LANES).enumerate() {
                    let at = form.place(piece * LANES, column);
                    let values = s.load_part(values);
                    let first = s.round_bf16(values);
                    // SAFETY: the array has room for 16 numbers.
                    unsafe { s.store_bf16(packed.as_mut_ptr(), first) };
                    spread(&packed, at, to);
                    // SAFETY: as above.
                    unsafe { s.store_bf16(packed.as_mut_ptr(), s.sub(values, first)) };
                    spread(&packed, at + 32 * PANEL, to);
                }
            }
            WeightForm::I8 => return pack_bytes(s, row, column, to),
        }
        ByteScale::default()
    }
}

/// Writes 16 numbers in pairs, from `first` on, each pair a step further.
#[inline(always)]
fn spread(numbers: &[u16; LANES], first: usize, to: &mut [u16]) {
    for (step, pair) in numbers.chunks_exact(2).enumerate() {
        to[first + step * 2 * PANEL..][..2].copy_from_slice(pair);
    }
}

/// Writes one column as bytes: the largest magnitude becomes 127.
#[inline(always)]
fn pack_bytes<S: Simd>(s: S, row: &[f32], column: usize, to: &mut [u8]) -> ByteScale {
    let zero = s.splat(0.0);
    let (mut largest, mut bad) = (zero, zero);
    for values in row.chunks_exact(LANES) {
        let values = s.load_part(values);
        largest = s.max(largest, s.max(values, s.sub(zero, values)));
        // Not a number if any is not, or infinite: such a column gives nothing else.
        bad = s.fma(values, zero, bad);
    }
    let largest = s.largest(largest) + s.sum(bad);
    // A column too small for its inverse is nothing beside any other: all zero.
    let inverse = 127.0 / largest;
    let inverse = if inverse.is_finite() { inverse } else { 0.0 };
    let (mut bytes, mut sum) = ([0u8; LANES], 0);
    for (piece, values) in row.chunks_exact(LANES).enumerate() {
        let scaled = s.round(s.mul(s.load_part(values), s.splat(inverse)));
        let value = s.min(s.max(s.add(scaled, s.splat(128.0)), s.splat(1.0)), s.splat(255.0));
        // SAFETY: the array has room for 16 bytes.
        unsafe { s.store_u8(bytes.as_mut_ptr(), value) };
        for (step, four) in bytes.chunks_exact(4).enumerate() {
            let at = (piece * LANES / 4 + step) * 4 * PANEL + 4 * column;
            for (to, byte) in to[at..at + 4].iter_mut().zip(four) {
                *to = byte.wrapping_sub(128);
                sum += i32::from(*to as i8);
            }
        }
    }
    ByteScale { scale: largest / 127.0, sum }
}
