//! Weights as products take them, packed once at load.
//!
//! Must not know: layers, tensors, files.

use half::{bf16, f16};

use super::aligned::{AlignedBytes, numbers_mut};
use super::product::{DEPTH_UNIT, PANEL, WeightForm};
use super::shared::SharedMut;
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
            team::for_each_part(&mut bytes, panel_bytes, |panel, to| {
                let first = panel * PANEL;
                // SAFETY: a panel's scales belong to the task that has the panel.
                let scales = unsafe { scales.part(first, PANEL) };
                let mut row = vec![0.0; depth];
                for column in first..columns.min(first + PANEL) {
                    row.fill(0.0);
                    fill_row(column, &mut row);
                    scales[column - first] = pack_column(form, &row, column - first, to);
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
fn pack_column(form: WeightForm, row: &[f32], column: usize, panel: &mut [u8]) -> ByteScale {
    match form {
        WeightForm::F32 => {
            let to = &mut numbers_mut::<f32>(panel)[column..];
            to.iter_mut().step_by(PANEL).zip(row).for_each(|(to, value)| *to = *value);
        }
        WeightForm::F16 => {
            let to = &mut numbers_mut::<u16>(panel)[column..];
            let values = row.iter().map(|value| f16::from_f32(*value).to_bits());
            to.iter_mut().step_by(PANEL).zip(values).for_each(|(to, value)| *to = value);
        }
        WeightForm::Bf16 => {
            let to = numbers_mut::<u16>(panel).chunks_exact_mut(2 * PANEL);
            for (pair, to) in row.chunks(2).zip(to) {
                for (to, value) in to[2 * column..].iter_mut().zip(pair) {
                    *to = bf16::from_f32(*value).to_bits();
                }
            }
        }
        WeightForm::Split2 => {
            let to = numbers_mut::<u16>(panel);
            for (depth, value) in row.iter().enumerate() {
                let place = form.place(depth, column);
                let first = bf16::from_f32(*value);
                to[place] = first.to_bits();
                to[place + 32 * PANEL] = bf16::from_f32(value - first.to_f32()).to_bits();
            }
        }
        WeightForm::I8 => return pack_bytes(row, column, numbers_mut(panel)),
    }
    ByteScale::default()
}

/// Writes one column as bytes: the largest magnitude becomes 127.
fn pack_bytes(row: &[f32], column: usize, panel: &mut [i8]) -> ByteScale {
    let larger = |largest: f32, value: &f32| {
        let size = value.abs();
        // What is not a number stays, so that it is seen.
        if size > largest || size.is_nan() { size } else { largest }
    };
    let largest = row.iter().fold(0.0, larger);
    let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
    let mut sum = 0;
    for (depth, value) in row.iter().enumerate() {
        let byte = (value * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
        panel[WeightForm::I8.place(depth, column)] = byte;
        sum += i32::from(byte);
    }
    ByteScale { scale: largest / 127.0, sum }
}
