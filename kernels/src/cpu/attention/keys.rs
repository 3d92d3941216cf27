//! Keys and values of a batch, packed as weights of attention's two products.
//!
//! Must not know: queries, masks.

use parking_lot::Mutex;

use super::{Heads, Layout, Run, SIZE_UNIT, Source};
use crate::cpu::aligned::{AlignedBytes, numbers_mut};
use crate::cpu::isa::{Isa, Kernel};
use crate::cpu::product::{PANEL, WeightForm};
use crate::cpu::simd::{LANES, Simd};
use crate::cpu::team;

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
    pub(super) fn new(
        isa: Isa,
        qkv: &[f32],
        heads: Heads,
        layout: Layout<'_>,
        form: WeightForm,
    ) -> Self {
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
        let parts: Vec<_> = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
        team::for_each(parts.len(), |place| {
            let Some((run, head, part)) = parts[place].lock().take() else { return };
            isa.run(PackHead { qkv, heads, head, layout, run, form, part });
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

/// One head of one run.
struct PackHead<'a> {
    qkv: &'a [f32],
    heads: Heads,
    head: usize,
    layout: Layout<'a>,
    run: &'a Run,
    form: WeightForm,
    part: &'a mut [u8],
}

impl Kernel for PackHead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { qkv, heads, head, layout, run, form, part } = self;
        let own = std::iter::once(Source::Batch(run.rows.clone()));
        let size = heads.size.next_multiple_of(SIZE_UNIT);
        let padded = (run.start + run.rows.len()).next_multiple_of(PANEL);
        let (keys, values) = part.split_at_mut(part.len() / 2);
        let group = Vec::with_capacity(PANEL);
        let mut to = Panels { form, size, padded, next: 0, keys, values, group };
        for source in run.before.iter().cloned().chain(own) {
            let (rows, width, first) = match source {
                Source::Batch(rows) => {
                    let rows = &qkv[rows.start * heads.row()..rows.end * heads.row()];
                    (rows, heads.row(), heads.heads * heads.size)
                }
                Source::Kept(place) => (layout.kept[place], 2 * heads.kv_heads * heads.size, 0),
            };
            for row in rows.chunks_exact(width) {
                let key = &row[first + head * heads.size..][..heads.size];
                let value = &row[first + (heads.kv_heads + head) * heads.size..][..heads.size];
                to.push(s, KeyValue { key, value });
            }
        }
        assert_eq!(to.next, run.start + run.rows.len(), "a run starts after what is before it");
        to.finish(s);
    }
}

/// A row of a head, `[size]` each; empty where there is no row, which counts as zero.
#[derive(Clone, Copy, Default)]
struct KeyValue<'a> {
    key: &'a [f32],
    value: &'a [f32],
}

/// 16 numbers of a row from `first` on, filled up with zeros.
#[inline(always)]
fn piece<S: Simd>(s: S, row: &[f32], first: usize) -> S::V {
    s.load_part(row.get(first..).unwrap_or_default())
}

/// Where the keys and values of a head go.
struct Panels<'a, 'rows> {
    form: WeightForm,
    /// Numbers of a key, filled up.
    size: usize,
    /// Keys, filled up.
    padded: usize,
    /// Keys so far.
    next: usize,
    keys: &'a mut [u8],
    values: &'a mut [u8],
    /// Up to 32 rows that are laid out together.
    group: Vec<KeyValue<'rows>>,
}

impl<'rows> Panels<'_, 'rows> {
    #[inline(always)]
    fn push<S: Simd>(&mut self, s: S, row: KeyValue<'rows>) {
        self.group.push(row);
        self.next += 1;
        if self.group.len() == PANEL {
            self.lay_out(s, self.next - PANEL);
        }
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S) {
        let count = self.group.len();
        if count > 0 {
            self.group.resize(PANEL, KeyValue::default());
            self.lay_out(s, self.next - count);
        }
    }

    /// Lays out the group, 32 rows from the one at `first` on.
    #[inline(always)]
    fn lay_out<S: Simd>(&mut self, s: S, first: usize) {
        if self.form == WeightForm::F32 {
            self.lay_out_f32(s, first);
        } else {
            self.lay_out_bf16(s, first);
        }
        self.group.clear();
    }

    #[inline(always)]
    fn lay_out_f32<S: Simd>(&mut self, s: S, first: usize) {
        let (size, padded) = (self.size, self.padded);
        let keys = &mut numbers_mut::<f32>(self.keys)[first * size..][..PANEL * size];
        for (half, group) in self.group.chunks_exact(LANES).enumerate() {
            for first in (0..size).step_by(LANES) {
                let mut rows = [s.splat(0.0); LANES];
                for (row, key) in rows.iter_mut().zip(group) {
                    *row = piece(s, key.key, first);
                }
                for (depth, column) in (first..).zip(s.transpose(rows)) {
                    s.store_part(&mut keys[depth * PANEL + half * LANES..][..LANES], column);
                }
            }
        }
        let values = numbers_mut::<f32>(self.values);
        for (panel, to) in values.chunks_exact_mut(padded * PANEL).enumerate() {
            let to = to[first * PANEL..(first + PANEL) * PANEL].chunks_exact_mut(PANEL);
            for (to, row) in to.zip(&self.group) {
                for (half, to) in to.chunks_exact_mut(LANES).enumerate() {
                    s.store_part(to, piece(s, row.value, panel * PANEL + half * LANES));
                }
            }
        }
    }

    #[inline(always)]
    fn lay_out_bf16<S: Simd>(&mut self, s: S, first: usize) {
        let (size, padded) = (self.size, self.padded);
        // Pairs of bfloat16, in the bits of float32: they are moved, not computed with.
        let keys = &mut numbers_mut::<f32>(self.keys)[first * size / 2..][..PANEL * size / 2];
        let mut pairs = [0.0f32; LANES];
        for (half, group) in self.group.chunks_exact(LANES).enumerate() {
            for first in (0..size).step_by(2 * LANES) {
                let mut rows = [s.splat(0.0); LANES];
                for (row, key) in rows.iter_mut().zip(group) {
                    let key = key.key;
                    let (left, right) = (piece(s, key, first), piece(s, key, first + LANES));
                    // SAFETY: the array has room for 32 numbers of 16 bits.
                    unsafe { s.store_bf16_twice(pairs.as_mut_ptr().cast(), left, right) };
                    *row = s.load_part(&pairs);
                }
                for (depth, column) in (first / 2..).zip(s.transpose(rows)) {
                    s.store_part(&mut keys[depth * PANEL + half * LANES..][..LANES], column);
                }
            }
        }
        let values = numbers_mut::<u32>(self.values);
        for (panel, to) in values.chunks_exact_mut(padded / 2 * PANEL).enumerate() {
            let to = to[first / 2 * PANEL..(first + PANEL) / 2 * PANEL].chunks_exact_mut(PANEL);
            for (to, rows) in to.zip(self.group.chunks_exact(2)) {
                for (half, to) in to.chunks_exact_mut(LANES).enumerate() {
                    let at = panel * PANEL + half * LANES;
                    let (even, odd) = (piece(s, rows[0].value, at), piece(s, rows[1].value, at));
                    // SAFETY: the piece has room for 16 pairs.
                    unsafe { s.store_bf16_pairs(to.as_mut_ptr().cast(), even, odd) };
                }
            }
        }
    }
}
