//! Activations packed for GEMM: row panels, interleaved line by line.
//!
//! Must not know: layers, tensors, what they are multiplied with.

use super::micro_kernel::{DEPTH_UNIT, LINE, PackedFormat};
use crate::cpu::buffer::aligned::{AlignedBytes, Plain, cast, cast_mut};
use crate::cpu::buffer::shared::SharedMut;
use crate::cpu::isa::Isa;
use crate::cpu::isa::simd::{LANES, Simd, SimdOp};
use crate::cpu::thread_pool;

/// How a micro-kernel reads activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    /// The format of elements.
    pub format: PackedFormat,
    /// Rows per row panel.
    pub panel_rows: usize,
}

/// With at most this many elements, packing is not worth waking other threads for.
const PARALLEL_MIN: usize = 32 * 1024;
/// Rows packed per task.
const TASK_ROWS: usize = 48;

/// How to dequantize the bytes of a row: `(byte - zero) * scale`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(in crate::cpu) struct RowScale {
    /// The quantization step.
    pub scale: f32,
    /// The zero point: the byte that stands for 0.
    pub zero: i32,
}
// SAFETY: two 4-byte fields of equal alignment, valid for any bits, without padding.
unsafe impl Plain for RowScale {}

/// A packed matrix `[rows, width]`.
#[derive(Debug)]
pub struct PackedLhs {
    /// Row panels, followed by a [`RowScale`] per row for `PackedFormat::U8`.
    bytes: AlignedBytes,
    /// Length of the row panels in bytes.
    row_panels: usize,
    packing: Packing,
    rows: usize,
    width: usize,
}

impl PackedLhs {
    /// Allocates a matrix with stale contents: every row must then be written in full.
    pub fn new(packing: Packing, rows: usize, width: usize) -> Self {
        let row_panels = rows.div_ceil(packing.panel_rows) * packing.row_panel_bytes(width);
        let scales =
            if packing.format == PackedFormat::U8 { rows * size_of::<RowScale>() } else { 0 };
        let mut bytes = AlignedBytes::reused(row_panels + scales);
        // Padding after a row meets zero weights, so it must be finite. Rows after the last are
        // multiplied too, but their sums are never read.
        if !width.is_multiple_of(DEPTH_UNIT) {
            bytes.fill(0);
        }
        Self { bytes, row_panels, packing, rows, width }
    }

    /// Packs rows of `width` elements.
    ///
    /// # Panics
    /// If `width` is zero or `x` is not a whole number of rows.
    pub fn of(isa: Isa, x: &[f32], width: usize, packing: Packing) -> Self {
        Self::of_columns(isa, x, width, 0..width, packing)
    }

    /// Packs some columns of rows of `stride` elements.
    ///
    /// # Panics
    /// If there are no columns, columns lie beyond a row, or `x` is not a whole number of rows.
    pub fn of_columns(
        isa: Isa,
        x: &[f32],
        stride: usize,
        columns: std::ops::Range<usize>,
        packing: Packing,
    ) -> Self {
        assert!(!columns.is_empty() && columns.end <= stride, "columns of a row");
        assert!(x.len().is_multiple_of(stride), "whole rows");
        let mut packed = Self::new(packing, x.len() / stride, columns.len());
        packed.fill(isa, |isa, writer, rows| {
            let x = &x[rows.start * stride..rows.end * stride];
            isa.run(PackRows { writer, first: rows.start, x, stride, column: columns.start });
        });
        packed
    }

    /// Fills it with `pack`, which writes a range of rows, on all threads.
    pub(in crate::cpu) fn fill(
        &mut self,
        isa: Isa,
        pack: impl Fn(Isa, &PanelWriter<'_>, std::ops::Range<usize>) + Sync,
    ) {
        let rows = self.rows;
        let alone = rows * self.width <= PARALLEL_MIN;
        let writer = self.writer();
        if alone {
            return pack(isa, &writer, 0..rows);
        }
        thread_pool::for_each(rows.div_ceil(TASK_ROWS), |task| {
            let first = task * TASK_ROWS;
            pack(isa, &writer, first..rows.min(first + TASK_ROWS));
        });
    }

    /// A writer that several threads may share.
    pub(in crate::cpu) fn writer(&mut self) -> PanelWriter<'_> {
        let (bytes, scales) = self.bytes.split_at_mut(self.row_panels);
        PanelWriter {
            packing: self.packing,
            width: self.width,
            row_panel_bytes: self.packing.row_panel_bytes(self.width),
            line_bytes: self.packing.line_bytes(),
            bytes: SharedMut::new(bytes),
            scales: SharedMut::new(cast_mut(scales)),
        }
    }

    /// The row panels from the one that starts with this row.
    #[inline]
    pub(in crate::cpu) fn row_panels_from(&self, row: usize) -> &[u8] {
        debug_assert!(row.is_multiple_of(self.packing.panel_rows), "row panels are whole");
        let first = row / self.packing.panel_rows * self.packing.row_panel_bytes(self.width);
        &self.bytes[first..self.row_panels]
    }

    /// Dequantization parameters of each row; empty unless the format is `PackedFormat::U8`.
    #[inline]
    pub(in crate::cpu) fn scales(&self) -> &[RowScale] {
        cast(&self.bytes[self.row_panels..])
    }

    /// How it is packed.
    #[inline]
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// Number of rows.
    #[inline]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Elements per row.
    #[inline]
    pub fn width(&self) -> usize {
        self.width
    }
}

impl Packing {
    /// Bytes of one line of a row panel, of all parts.
    #[inline]
    pub(in crate::cpu) fn line_bytes(self) -> usize {
        self.format.parts() * self.panel_rows * LINE
    }

    /// Bytes of a row panel whose rows have this width.
    #[inline]
    pub(in crate::cpu) fn row_panel_bytes(self, width: usize) -> usize {
        width.next_multiple_of(DEPTH_UNIT) / self.format.depth() * self.line_bytes()
    }
}

/// Writes rows of a [`PackedLhs`].
pub(in crate::cpu) struct PanelWriter<'a> {
    packing: Packing,
    width: usize,
    row_panel_bytes: usize,
    line_bytes: usize,
    bytes: SharedMut<'a, u8>,
    scales: SharedMut<'a, RowScale>,
}

impl PanelWriter<'_> {
    /// Whether a row can be written piece by piece.
    #[inline]
    pub(in crate::cpu) fn takes_pieces(&self) -> bool {
        self.packing.format != PackedFormat::U8
    }

    /// Writes a whole row.
    ///
    /// # Safety
    /// No other thread writes this row.
    #[inline(always)]
    pub(in crate::cpu) unsafe fn row<S: Simd>(&self, s: S, row: usize, x: &[f32]) {
        assert_eq!(x.len(), self.width, "a whole row");
        if self.packing.format == PackedFormat::U8 {
            // SAFETY: guaranteed by the caller.
            return unsafe { self.row_of_bytes(s, row, x) };
        }
        let start = self.start_of(row);
        for (piece, x) in x.chunks(LANES).enumerate() {
            // SAFETY: guaranteed by the caller.
            unsafe { self.piece(s, start, piece * LANES, s.load_part(x)) };
        }
    }

    /// The format of elements.
    #[inline]
    pub(in crate::cpu) fn format(&self) -> PackedFormat {
        self.packing.format
    }

    /// Offsets of the first lines of the rows from this one on.
    #[inline(always)]
    pub(in crate::cpu) fn starts_from(&self, row: usize) -> Starts {
        let (panel_rows, next) = (self.packing.panel_rows, self.start_of(row));
        let to_next_panel = self.row_panel_bytes - (panel_rows - 1) * LINE;
        Starts { next, left: panel_rows - row % panel_rows, panel_rows, to_next_panel }
    }

    /// Writes `N` vectors of 16 elements, in the format `P`, to the row that starts at `start`,
    /// from element `first` on, a multiple of `16 * N`.
    ///
    /// # Safety
    /// No other thread writes these elements. The format is `P`'s.
    #[inline(always)]
    pub(in crate::cpu) unsafe fn pieces<S: Simd, P: Pieces, const N: usize>(
        &self,
        s: S,
        start: usize,
        first: usize,
        values: [S::V; N],
    ) {
        let offset = P::offset(self, start, first);
        // SAFETY: guaranteed by the caller.
        unsafe { P::write(s, self, offset, values) };
    }

    /// Offset of a row's first line.
    #[inline(always)]
    pub(in crate::cpu) fn start_of(&self, row: usize) -> usize {
        // 32-bit division is faster, and the number of rows fits.
        let (row, panel_rows) = (row as u32, self.packing.panel_rows as u32);
        (row / panel_rows) as usize * self.row_panel_bytes + (row % panel_rows) as usize * LINE
    }

    /// Writes 16 elements to the row that starts at `start`, from element `first` on, a multiple of
    /// 16. Lanes past the row's end must be zero.
    ///
    /// # Safety
    /// No other thread writes these elements. The format is not `PackedFormat::U8`.
    #[inline(always)]
    pub(in crate::cpu) unsafe fn piece<S: Simd>(
        &self,
        s: S,
        start: usize,
        first: usize,
        value: S::V,
    ) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            match self.packing.format {
                PackedFormat::F32 => self.pieces::<S, F32Pieces, 1>(s, start, first, [value]),
                PackedFormat::Bf16 => self.pieces::<S, Bf16Parts<1>, 1>(s, start, first, [value]),
                PackedFormat::Split2 => self.pieces::<S, Bf16Parts<2>, 1>(s, start, first, [value]),
                PackedFormat::Split3 => self.pieces::<S, Bf16Parts<3>, 1>(s, start, first, [value]),
                PackedFormat::U8 => unreachable!("bytes need the whole row"),
            }
        }
    }

    /// Quantizes a row to bytes, `round(x / scale) + zero`: 0 and 255 are its minimum and maximum,
    /// the range widened to include zero.
    ///
    /// # Safety
    /// No other thread writes this row.
    #[inline(always)]
    unsafe fn row_of_bytes<S: Simd>(&self, s: S, row: usize, x: &[f32]) {
        let zero = s.splat(0.0);
        let (mut least, mut largest, mut sum) = (zero, zero, zero);
        for x in x.chunks(LANES) {
            let x = s.load_part(x);
            (least, largest) = (s.min(x, least), s.max(x, largest));
            // NaN if any element is NaN or infinite, which minimum and maximum may hide.
            sum = s.fma(x, zero, sum);
        }
        let least = s.lanes(least).into_iter().fold(0.0, f32::min) + s.sum(sum);
        let largest = s.largest(largest) + s.sum(sum);
        let scale = (largest - least) / 255.0;
        // A range too small to invert is negligible next to any other row's: all zero.
        let inverse = if scale >= f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
        let offset = (-least * inverse).round_ties_even();
        // SAFETY: guaranteed by the caller.
        unsafe { self.scales.part(row, 1)[0] = RowScale { scale, zero: offset as i32 } };
        let start = self.start_of(row);
        let (inverse, offset) = (s.splat(inverse), s.splat(offset));
        for (piece, x) in x.chunks(LANES).enumerate() {
            let line = start + piece / 4 * self.line_bytes;
            let scaled = s.round(s.mul(s.load_part(x), inverse));
            let value = s.min(s.max(s.add(scaled, offset), zero), s.splat(255.0));
            // SAFETY: guaranteed by the caller; `part` checks the bounds.
            unsafe {
                s.store_u8(self.bytes.part(line + piece % 4 * LANES, LANES).as_mut_ptr(), value);
            }
        }
    }
}

/// Offsets of consecutive rows.
pub(in crate::cpu) struct Starts {
    next: usize,
    /// Rows left in this row panel, including the next one.
    left: usize,
    panel_rows: usize,
    /// Distance from a row panel's last row to the first row of the next.
    to_next_panel: usize,
}

impl Iterator for Starts {
    type Item = usize;
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let start = self.next;
        self.left -= 1;
        if self.left == 0 {
            self.left = self.panel_rows;
            self.next += self.to_next_panel;
        } else {
            self.next += LINE;
        }
        Some(start)
    }
}

/// A [`PackedFormat`] as a type, so that loops are monomorphized for it.
pub(in crate::cpu) trait Pieces {
    /// Offset of the 16 elements from `first` on, of the row that starts at `start`.
    fn offset(writer: &PanelWriter<'_>, start: usize, first: usize) -> usize;

    /// Writes `N` vectors of 16 elements there.
    ///
    /// # Safety
    /// No other thread writes these elements.
    unsafe fn write<S: Simd, const N: usize>(
        s: S,
        writer: &PanelWriter<'_>,
        offset: usize,
        values: [S::V; N],
    );
}

/// `PackedFormat::F32`.
pub(in crate::cpu) struct F32Pieces;

impl Pieces for F32Pieces {
    #[inline(always)]
    fn offset(writer: &PanelWriter<'_>, start: usize, first: usize) -> usize {
        start + first / LANES * writer.line_bytes
    }

    #[inline(always)]
    unsafe fn write<S: Simd, const N: usize>(
        s: S,
        writer: &PanelWriter<'_>,
        offset: usize,
        values: [S::V; N],
    ) {
        for (piece, value) in values.into_iter().enumerate() {
            let at = offset + piece * writer.line_bytes;
            // SAFETY: guaranteed by the caller; `part` checks the bounds of a line.
            unsafe { s.store(writer.bytes.part(at, LINE).as_mut_ptr().cast(), value) };
        }
    }
}

/// Elements split into `PARTS` bfloat16 values: `PackedFormat::Bf16`, `PackedFormat::Split2` and
/// `PackedFormat::Split3`.
pub(in crate::cpu) struct Bf16Parts<const PARTS: usize>;

impl<const PARTS: usize> Pieces for Bf16Parts<PARTS> {
    #[inline(always)]
    fn offset(writer: &PanelWriter<'_>, start: usize, first: usize) -> usize {
        start + first / 32 * writer.line_bytes + first % 32 * 2
    }

    #[inline(always)]
    unsafe fn write<S: Simd, const N: usize>(
        s: S,
        writer: &PanelWriter<'_>,
        offset: usize,
        mut values: [S::V; N],
    ) {
        for part in 0..PARTS {
            let at = offset + part * writer.packing.panel_rows * LINE;
            // SAFETY: guaranteed by the caller; `part` checks the bounds of one or two half lines.
            unsafe {
                let to = writer.bytes.part(at, N * LINE / 2).as_mut_ptr().cast();
                if let [left, right] = values[..] {
                    s.store_bf16_twice(to, left, right);
                } else {
                    s.store_bf16(to, values[0]);
                }
            }
            if part + 1 < PARTS {
                // The next part is the rounding error of this one.
                for value in &mut values {
                    *value = s.sub(*value, s.round_bf16(*value));
                }
            }
        }
    }
}

/// Packs rows from `first` on.
struct PackRows<'a> {
    writer: &'a PanelWriter<'a>,
    first: usize,
    /// Rows of `stride` elements, packed from `column` on.
    x: &'a [f32],
    stride: usize,
    column: usize,
}

impl SimdOp for PackRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (row, x) in self.x.chunks_exact(self.stride).enumerate() {
            let x = &x[self.column..self.column + self.writer.width];
            // SAFETY: each task has its own rows.
            unsafe { self.writer.row(s, self.first + row, x) };
        }
    }
}

/// A writer of row panels in a kernel's own scratch memory.
pub(in crate::cpu) fn row_panel_writer(
    packing: Packing,
    width: usize,
    bytes: &mut [u8],
) -> PanelWriter<'_> {
    let (row_panel_bytes, line_bytes) = (packing.row_panel_bytes(width), packing.line_bytes());
    let (bytes, scales) = (SharedMut::new(bytes), SharedMut::new(&mut []));
    PanelWriter { packing, width, row_panel_bytes, line_bytes, bytes, scales }
}
