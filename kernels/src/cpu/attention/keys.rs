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
        let mut to = Panels { form, size, padded, next: 0, keys, values, group: Group::new(size) };
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
                to.push(s, key, value);
            }
        }
        assert_eq!(to.next, run.start + run.rows.len(), "a run starts behind what is before it");
        to.finish(s);
    }
}

/// Up to 32 keys and values, row by row, before they are laid out in their panels.
struct Group {
    keys: Vec<f32>,
    values: Vec<f32>,
    count: usize,
}

impl Group {
    fn new(size: usize) -> Self {
        Self { keys: vec![0.0; PANEL * size], values: vec![0.0; PANEL * size], count: 0 }
    }
}

/// Where the keys and values of a head go.
struct Panels<'a> {
    form: WeightForm,
    /// Numbers of a key, filled up.
    size: usize,
    /// Keys, filled up.
    padded: usize,
    /// Keys so far.
    next: usize,
    keys: &'a mut [u8],
    values: &'a mut [u8],
    group: Group,
}

impl Panels<'_> {
    #[inline(always)]
    fn push<S: Simd>(&mut self, s: S, key: &[f32], value: &[f32]) {
        let at = self.group.count * self.size;
        self.group.keys[at..at + key.len()].copy_from_slice(key);
        self.group.values[at..at + value.len()].copy_from_slice(value);
        self.group.count += 1;
        self.next += 1;
        if self.group.count == PANEL {
            self.lay_out(s, self.next - PANEL);
            self.group.count = 0;
        }
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S) {
        let (count, size) = (self.group.count, self.size);
        if count > 0 {
            // What is not there counts as zero.
            self.group.keys[count * size..].fill(0.0);
            self.group.values[count * size..].fill(0.0);
            self.lay_out(s, self.next - count);
        }
    }

    /// Lays out 32 keys and values from the one at `first` on.
    #[inline(always)]
    fn lay_out<S: Simd>(&mut self, s: S, first: usize) {
        let (size, padded, group) = (self.size, self.padded, &self.group);
        if self.form == WeightForm::F32 {
            let keys = &mut numbers_mut::<f32>(self.keys)[first * size..][..PANEL * size];
            for (depth, to) in keys.chunks_exact_mut(PANEL).enumerate() {
                to.iter_mut()
                    .enumerate()
                    .for_each(|(key, to)| *to = group.keys[key * size + depth]);
            }
            let values = numbers_mut::<f32>(self.values);
            for (panel, to) in values.chunks_exact_mut(padded * PANEL).enumerate() {
                let to = to[first * PANEL..(first + PANEL) * PANEL].chunks_exact_mut(PANEL);
                for (to, row) in to.zip(group.values.chunks_exact(size)) {
                    to.copy_from_slice(&row[panel * PANEL..(panel + 1) * PANEL]);
                }
            }
            return;
        }
        let keys = &mut numbers_mut::<u32>(self.keys)[first * size / 2..][..PANEL * size / 2];
        let mut pairs = [0u32; LANES];
        for (key, row) in group.keys.chunks_exact(size).enumerate() {
            for (piece, numbers) in row.chunks_exact(2 * LANES).enumerate() {
                let (left, right) = numbers.split_at(LANES);
                // SAFETY: the array has room for 32 numbers of 16 bits.
                unsafe {
                    let to: *mut u16 = pairs.as_mut_ptr().cast();
                    s.store_bf16(to, s.load_part(left));
                    s.store_bf16(to.add(LANES), s.load_part(right));
                }
                for (pair, value) in pairs.iter().enumerate() {
                    keys[(piece * LANES + pair) * PANEL + key] = *value;
                }
            }
        }
        let values = numbers_mut::<u32>(self.values);
        for (panel, to) in values.chunks_exact_mut(padded / 2 * PANEL).enumerate() {
            let to = to[first / 2 * PANEL..(first + PANEL) / 2 * PANEL].chunks_exact_mut(PANEL);
            for (to, rows) in to.zip(group.values.chunks_exact(2 * size)) {
                let (even, odd) = rows.split_at(size);
                for (half, to) in to.chunks_exact_mut(LANES).enumerate() {
                    let at = panel * PANEL + half * LANES;
                    let (even, odd) = (s.load_part(&even[at..]), s.load_part(&odd[at..]));
                    // SAFETY: the piece has room for 16 pairs.
                    unsafe { s.store_bf16_pairs(to.as_mut_ptr().cast(), even, odd) };
                }
            }
        }
    }
}
