//! Keys and values of a batch, packed as the weights of attention's two GEMMs.
//!
//! Must not know: queries, masks.

use parking_lot::Mutex;

use super::{Layout, SIZE_UNIT};
use crate::cpu::buffer::aligned::{AlignedBytes, cast_mut};
use crate::cpu::gemm::micro_kernel::{PANEL_COLUMNS, WeightFormat};
use crate::cpu::isa::Isa;
use crate::cpu::isa::simd::{LANES, Simd, SimdOp};
use crate::cpu::thread_pool;
use crate::spec::{Ancestor, Heads, Segment};

/// Keys and values that each segment and head sees, packed as GEMM weights: keys in panels of 32
/// keys, values in panels of 32 elements, both zero-padded.
pub(super) struct PackedKeys {
    bytes: AlignedBytes,
    /// Offset of each segment's part, in units of `Self::per_key` bytes.
    starts: Vec<usize>,
    heads: Heads,
    format: WeightFormat,
}

impl PackedKeys {
    pub(super) fn new(
        isa: Isa,
        qkv: &[f32],
        heads: Heads,
        layout: Layout<'_>,
        format: WeightFormat,
    ) -> Self {
        let padded = |segment: &Segment| {
            (segment.start + segment.rows.len()).next_multiple_of(PANEL_COLUMNS)
        };
        let mut starts = vec![0];
        for segment in layout.segments {
            starts.push(starts[starts.len() - 1] + padded(segment) * heads.kv_heads);
        }
        let length = starts[starts.len() - 1] * Self::per_key(heads, format);
        let mut packed = Self { bytes: AlignedBytes::reused(length), starts, heads, format };
        let mut tasks = Vec::with_capacity(layout.segments.len() * heads.kv_heads);
        let mut rest = &mut packed.bytes[..];
        for segment in layout.segments {
            for head in 0..heads.kv_heads {
                let (part, after) =
                    rest.split_at_mut(padded(segment) * Self::per_key(heads, format));
                let work = PackHead { qkv, heads, head, layout, segment, format, part };
                tasks.push(Mutex::new(Some(work)));
                rest = after;
            }
        }
        thread_pool::for_each(tasks.len(), |task| {
            let Some(work) = tasks[task].lock().take() else { return };
            isa.run(work);
        });
        packed
    }

    /// Bytes of one packed key and its value, of one head.
    fn per_key(heads: Heads, format: WeightFormat) -> usize {
        2 * heads.size.next_multiple_of(SIZE_UNIT) * format.bytes()
    }

    /// Packed keys and values of one head of one segment.
    pub(super) fn of(&self, segment: usize, kv_head: usize) -> (&[u8], &[u8]) {
        let per_key = Self::per_key(self.heads, self.format);
        let per_head = (self.starts[segment + 1] - self.starts[segment]) / self.heads.kv_heads;
        let start = (self.starts[segment] + kv_head * per_head) * per_key;
        let part = &self.bytes[start..start + per_head * per_key];
        part.split_at(part.len() / 2)
    }
}

/// Packs one head of one segment.
struct PackHead<'a> {
    qkv: &'a [f32],
    heads: Heads,
    head: usize,
    layout: Layout<'a>,
    segment: &'a Segment,
    format: WeightFormat,
    part: &'a mut [u8],
}

impl SimdOp for PackHead<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { qkv, heads, head, layout, segment, format, part } = self;
        let own = std::iter::once(Ancestor::Batch(segment.rows.clone()));
        let size = heads.size.next_multiple_of(SIZE_UNIT);
        let padded = (segment.start + segment.rows.len()).next_multiple_of(PANEL_COLUMNS);
        let (keys, values) = part.split_at_mut(part.len() / 2);
        let group = Vec::with_capacity(PANEL_COLUMNS);
        let mut to = Panels { format, size, padded, next: 0, keys, values, group };
        for source in segment.ancestors.iter().cloned().chain(own) {
            let (rows, width, first) = match source {
                Ancestor::Batch(rows) => {
                    let rows = &qkv[rows.start * heads.row()..rows.end * heads.row()];
                    (rows, heads.row(), heads.heads * heads.size)
                }
                Ancestor::Cached(index) => {
                    (layout.cached[index], 2 * heads.kv_heads * heads.size, 0)
                }
            };
            for row in rows.chunks_exact(width) {
                let key = &row[first + head * heads.size..][..heads.size];
                let value = &row[first + (heads.kv_heads + head) * heads.size..][..heads.size];
                to.push(s, KeyValue { key, value });
            }
        }
        assert_eq!(
            to.next,
            segment.start + segment.rows.len(),
            "a segment starts after what is before it"
        );
        to.finish(s);
    }
}

/// One row's key and value of a head, `[size]` each; empty for padding, which packs as zeros.
#[derive(Clone, Copy, Default)]
struct KeyValue<'a> {
    key: &'a [f32],
    value: &'a [f32],
}

/// 16 elements of a row from `first` on, zero-padded.
#[inline(always)]
fn piece<S: Simd>(s: S, row: &[f32], first: usize) -> S::V {
    s.load_part(row.get(first..).unwrap_or_default())
}

/// The packed keys and values of a head, while they are written.
struct Panels<'a, 'rows> {
    format: WeightFormat,
    /// Padded head size.
    size: usize,
    /// Padded number of keys.
    padded: usize,
    /// Keys pushed so far.
    next: usize,
    keys: &'a mut [u8],
    values: &'a mut [u8],
    /// Up to 32 buffered rows, which are packed together.
    group: Vec<KeyValue<'rows>>,
}

impl<'rows> Panels<'_, 'rows> {
    #[inline(always)]
    fn push<S: Simd>(&mut self, s: S, row: KeyValue<'rows>) {
        self.group.push(row);
        self.next += 1;
        if self.group.len() == PANEL_COLUMNS {
            self.lay_out(s, self.next - PANEL_COLUMNS);
        }
    }

    #[inline(always)]
    fn finish<S: Simd>(&mut self, s: S) {
        let count = self.group.len();
        if count > 0 {
            self.group.resize(PANEL_COLUMNS, KeyValue::default());
            self.lay_out(s, self.next - count);
        }
    }

    /// Packs the buffered 32 rows, the first of which is key `first`.
    #[inline(always)]
    fn lay_out<S: Simd>(&mut self, s: S, first: usize) {
        if self.format == WeightFormat::F32 {
            self.lay_out_f32(s, first);
        } else {
            self.lay_out_bf16(s, first);
        }
        self.group.clear();
    }

    #[inline(always)]
    fn lay_out_f32<S: Simd>(&mut self, s: S, first: usize) {
        let (size, padded) = (self.size, self.padded);
        let keys = &mut cast_mut::<f32>(self.keys)[first * size..][..PANEL_COLUMNS * size];
        for (half, group) in self.group.chunks_exact(LANES).enumerate() {
            for first in (0..size).step_by(LANES) {
                let mut rows = [s.splat(0.0); LANES];
                for (row, key) in rows.iter_mut().zip(group) {
                    *row = piece(s, key.key, first);
                }
                for (depth, column) in (first..).zip(s.transpose(rows)) {
                    s.store_part(
                        &mut keys[depth * PANEL_COLUMNS + half * LANES..][..LANES],
                        column,
                    );
                }
            }
        }
        let values = cast_mut::<f32>(self.values);
        for (panel, to) in values.chunks_exact_mut(padded * PANEL_COLUMNS).enumerate() {
            let to = to[first * PANEL_COLUMNS..(first + PANEL_COLUMNS) * PANEL_COLUMNS]
                .chunks_exact_mut(PANEL_COLUMNS);
            for (to, row) in to.zip(&self.group) {
                for (half, to) in to.chunks_exact_mut(LANES).enumerate() {
                    s.store_part(to, piece(s, row.value, panel * PANEL_COLUMNS + half * LANES));
                }
            }
        }
    }

    #[inline(always)]
    fn lay_out_bf16<S: Simd>(&mut self, s: S, first: usize) {
        let (size, padded) = (self.size, self.padded);
        // Pairs of bfloat16 as float32 bit patterns: only moved, never used in arithmetic.
        let keys = &mut cast_mut::<f32>(self.keys)[first * size / 2..][..PANEL_COLUMNS * size / 2];
        let mut pairs = [0.0f32; LANES];
        for (half, group) in self.group.chunks_exact(LANES).enumerate() {
            for first in (0..size).step_by(2 * LANES) {
                let mut rows = [s.splat(0.0); LANES];
                for (row, key) in rows.iter_mut().zip(group) {
                    let key = key.key;
                    let (left, right) = (piece(s, key, first), piece(s, key, first + LANES));
                    // SAFETY: the array has room for 32 elements of 16 bits.
                    unsafe { s.store_bf16_twice(pairs.as_mut_ptr().cast(), left, right) };
                    *row = s.load_part(&pairs);
                }
                for (depth, column) in (first / 2..).zip(s.transpose(rows)) {
                    s.store_part(
                        &mut keys[depth * PANEL_COLUMNS + half * LANES..][..LANES],
                        column,
                    );
                }
            }
        }
        let values = cast_mut::<u32>(self.values);
        for (panel, to) in values.chunks_exact_mut(padded / 2 * PANEL_COLUMNS).enumerate() {
            let to = to[first / 2 * PANEL_COLUMNS..(first + PANEL_COLUMNS) / 2 * PANEL_COLUMNS]
                .chunks_exact_mut(PANEL_COLUMNS);
            for (to, rows) in to.zip(self.group.chunks_exact(2)) {
                for (half, to) in to.chunks_exact_mut(LANES).enumerate() {
                    let at = panel * PANEL_COLUMNS + half * LANES;
                    let (even, odd) = (piece(s, rows[0].value, at), piece(s, rows[1].value, at));
                    // SAFETY: the chunk has room for 16 pairs.
                    unsafe { s.store_bf16_pairs(to.as_mut_ptr().cast(), even, odd) };
                }
            }
        }
    }
}
