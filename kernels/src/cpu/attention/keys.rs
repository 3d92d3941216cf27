//! Keys and values of a batch, packed as weights of attention's two products.
//!
//! Must not know: queries, masks.

use rayon::prelude::*;

use super::{Heads, Layout, Run, SIZE_UNIT, Source};
use crate::cpu::aligned::{AlignedBytes, Plain, numbers_mut};
use crate::cpu::product::{PANEL, WeightForm};

/// Keys and values that every run and head sees, packed as weights of a product: keys in panels of
/// 32 keys, values in panels of 32 numbers, filled up with zeros.
pub(super) struct PackedKeys {
    bytes: AlignedBytes,
    /// Where each run's part begins, in units of `Self::per_key`.
    starts: Vec<usize>,
    heads: Heads,
    form: WeightForm,
}

impl PackedKeys {
    pub(super) fn new(qkv: &[f32], heads: Heads, layout: Layout<'_>, form: WeightForm) -> Self {
        let padded = |run: &Run| (run.start + run.rows.len()).next_multiple_of(PANEL);
        let mut starts = vec![0];
        for run in layout.runs {
            starts.push(starts[starts.len() - 1] + padded(run) * heads.kv_heads);
        }
        let length = starts[starts.len() - 1] * Self::per_key(heads, form);
        let mut packed = Self { bytes: AlignedBytes::reused(length), starts, heads, form };
        let mut parts = Vec::with_capacity(layout.runs.len() * heads.kv_heads);
        let mut rest = &mut packed.bytes[..];
        for run in layout.runs {
            for head in 0..heads.kv_heads {
                let (part, after) = rest.split_at_mut(padded(run) * Self::per_key(heads, form));
                parts.push((run, head, part));
                rest = after;
            }
        }
        parts.into_par_iter().for_each(|(run, head, part)| {
            part.fill(0);
            let own = std::iter::once(Source::Batch(run.rows.clone()));
            let mut first = 0;
            for source in run.before.iter().cloned().chain(own) {
                let rows = match source {
                    Source::Batch(rows) => {
                        let rows = &qkv[rows.start * heads.row()..rows.end * heads.row()];
                        KeyRows { rows, width: heads.row(), keys: heads.heads * heads.size }
                    }
                    Source::Kept(place) => {
                        let width = 2 * heads.kv_heads * heads.size;
                        KeyRows { rows: layout.kept[place], width, keys: 0 }
                    }
                };
                first = match form {
                    WeightForm::F32 => rows.pack::<f32>(heads, head, first, part),
                    WeightForm::Bf16 => rows.pack::<u16>(heads, head, first, part),
                    other => unreachable!("attention is not computed with keys as {other:?}"),
                };
            }
            assert_eq!(first, run.start + run.rows.len(), "a run starts behind what is before it");
        });
        packed
    }

    /// Bytes kept for one key and its value.
    fn per_key(heads: Heads, form: WeightForm) -> usize {
        2 * heads.size.next_multiple_of(SIZE_UNIT) * form.bytes()
    }

    /// Keys and values of one head of one run.
    pub(super) fn of(&self, run: usize, kv_head: usize) -> (&[u8], &[u8]) {
        let per_key = Self::per_key(self.heads, self.form);
        let per_head = (self.starts[run + 1] - self.starts[run]) / self.heads.kv_heads;
        let start = (self.starts[run] + kv_head * per_head) * per_key;
        let part = &self.bytes[start..start + per_head * per_key];
        part.split_at(part.len() / 2)
    }
}

/// A number of packed keys and values.
trait KeyNumber: Plain {
    const FORM: WeightForm;
    fn of(value: f32) -> Self;
}

impl KeyNumber for f32 {
    const FORM: WeightForm = WeightForm::F32;
    fn of(value: f32) -> Self {
        value
    }
}

/// The bits of bfloat16.
impl KeyNumber for u16 {
    const FORM: WeightForm = WeightForm::Bf16;
    fn of(value: f32) -> Self {
        half::bf16::from_f32(value).to_bits()
    }
}

/// Rows with keys of every head from `keys` on, and values behind them.
struct KeyRows<'a> {
    rows: &'a [f32],
    width: usize,
    keys: usize,
}

impl KeyRows<'_> {
    /// Packs one head from the key `first` on; gives the key after the last.
    fn pack<T: KeyNumber>(
        &self,
        heads: Heads,
        kv_head: usize,
        first: usize,
        part: &mut [u8],
    ) -> usize {
        let size = heads.size;
        let padded_size = size.next_multiple_of(SIZE_UNIT);
        let numbers = numbers_mut::<T>(part);
        let half = numbers.len() / 2;
        let padded = half / padded_size;
        let (keys, values) = numbers.split_at_mut(half);
        let mut token = first;
        for row in self.rows.chunks_exact(self.width) {
            let key = &row[self.keys + kv_head * size..][..size];
            let panel = &mut keys[token / PANEL * PANEL * padded_size..][..PANEL * padded_size];
            for (place, value) in key.iter().enumerate() {
                panel[T::FORM.place(place, token % PANEL)] = T::of(*value);
            }
            let value = &row[self.keys + (heads.kv_heads + kv_head) * size..][..size];
            for (panel, part) in value.chunks(PANEL).enumerate() {
                let panel = &mut values[panel * padded * PANEL..][..padded * PANEL];
                for (column, value) in part.iter().enumerate() {
                    panel[T::FORM.place(token, column)] = T::of(*value);
                }
            }
            token += 1;
        }
        token
    }
}
