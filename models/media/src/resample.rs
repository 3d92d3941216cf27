//! Antialiased bicubic resampling of 8-bit RGB: Pillow's, bit for bit, and torchvision's.
//!
//! Resizes horizontally, then vertically (Pillow swaps the passes where that is cheaper); each
//! output value is a weighted sum of input values along one axis. Pillow sums in 22-bit fixed point
//! and rounds to 8 bits after each pass; torchvision sums in float32 and rounds once. For the
//! horizontal pass, strips of rows are transposed, so that both passes add contiguous lines and the
//! compiler vectorizes them.
//!
//! Must not know: files, how sizes are chosen.

use std::array;
use std::borrow::Cow;

use super::size::Size;

/// Values per pixel.
const CHANNELS: usize = 3;
/// Rows that are transposed together.
const STRIP: usize = 16;
/// Values of a strip in one column of pixels.
const BLOCK: usize = STRIP * CHANNELS;
/// Values that are summed in parallel.
const LANES: usize = 16;
/// Fractional bits of Pillow's weights.
const PRECISION: u32 = 22;
/// Bits in the low part of a weight: both parts then fit `i16`, whose products are cheap.
const LOW: u32 = 11;
/// Radius of the filter, in pixels of the coarser grid.
const SUPPORT: f64 = 2.0;

/// The weights of one output value, and the index of its first input value.
struct Window<W> {
    first: usize,
    weights: Vec<W>,
}

/// A fixed-point weight of Pillow's, in two parts: `high << LOW | low`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fixed {
    high: i16,
    low: i16,
}

/// How weights are computed and applied.
trait Arithmetic {
    /// A value between the passes.
    type Middle: Copy + Default;
    /// A weight.
    type Weight: Copy;

    /// The windows that resize a side of `from` pixels to `to`.
    fn windows(from: usize, to: usize) -> Vec<Window<Self::Weight>>;

    /// Sums weighted lines, the first at the start of `lines` and each further one `stride` values
    /// later.
    fn first(out: &mut [Self::Middle], lines: &[u8], stride: usize, weights: &[Self::Weight]);

    /// The same for the second pass.
    fn second(out: &mut [u8], lines: &[Self::Middle], stride: usize, weights: &[Self::Weight]);

    /// The result if there is no second pass.
    fn finish(values: Vec<Self::Middle>) -> Vec<u8>;

    /// The input of the second pass if there is no first.
    fn start(rgb: Cow<'_, [u8]>) -> Cow<'_, [Self::Middle]>;
}

/// Resizes as Pillow's `Image.resize` does by default (since release 13, which chooses the order of
/// its passes).
pub(super) fn pillow(rgb: Vec<u8>, from: Size, to: Size) -> Vec<u8> {
    let columns = from.width as f64 - to.width as f64;
    let rows = from.height as f64 - to.height as f64;
    if columns != 0.0 && rows > 0.0 && rows > 2.0 * columns {
        let rgb = down::<Pillow>(&rgb, from, to.height);
        return across::<Pillow>(&rgb, Size { height: to.height, ..from }, to.width);
    }
    resize::<Pillow>(rgb.into(), from, to)
}

/// Resizes as torchvision's `resize` of a tensor does, bicubic with antialiasing.
pub(super) fn torch(rgb: Cow<'_, [u8]>, from: Size, to: Size) -> Vec<u8> {
    resize::<Torch>(rgb, from, to)
}

/// Upper bound on the bytes that [`pillow`] holds, including the image and the result.
pub(super) fn pillow_bytes(from: Size, to: Size) -> usize {
    bytes(from, to, size_of::<u8>())
}

/// Upper bound on the bytes that [`torch`] holds, including the image and the result.
pub(super) fn torch_bytes(from: Size, to: Size) -> usize {
    bytes(from, to, size_of::<f32>())
}

/// Upper bound on the bytes that resizing holds, with `size` bytes per value between the passes.
fn bytes(from: Size, to: Size, size: usize) -> usize {
    let between = (to.width * from.height).max(from.width * to.height) * size;
    // The transposed strip, and the windows of all rows and columns.
    let sides = (from.width + from.height + to.width + to.height) * (BLOCK + 32);
    (from.pixels() + between + to.pixels()) * CHANNELS + sides
}

fn resize<A: Arithmetic>(rgb: Cow<'_, [u8]>, from: Size, to: Size) -> Vec<u8> {
    if from == to {
        return rgb.into_owned();
    }
    if from.height == to.height {
        return A::finish(across::<A>(&rgb, from, to.width));
    }
    let middle = if from.width == to.width {
        A::start(rgb)
    } else {
        across::<A>(&rgb, from, to.width).into()
    };
    down::<A>(&middle, Size { width: to.width, ..from }, to.height)
}

/// The horizontal pass, to `columns` columns.
fn across<A: Arithmetic>(rgb: &[u8], from: Size, columns: usize) -> Vec<A::Middle> {
    let Size { width, height } = from;
    let windows = A::windows(width, columns);
    let mut out = vec![A::Middle::default(); columns * height * CHANNELS];
    let mut turned = vec![0u8; width * BLOCK];
    let mut block = [A::Middle::default(); BLOCK];
    let rows = rgb.chunks(width * CHANNELS * STRIP);
    for (rows, out) in rows.zip(out.chunks_mut(columns * CHANNELS * STRIP)) {
        turn(rows, width * CHANNELS, &mut turned);
        let count = rows.len() / (width * CHANNELS);
        for (column, window) in windows.iter().enumerate() {
            A::first(&mut block, &turned[window.first * BLOCK..], BLOCK, &window.weights);
            for row in 0..count {
                let at = (row * columns + column) * CHANNELS;
                let pixel = array::from_fn::<_, CHANNELS, _>(|c| block[c * STRIP + row]);
                out[at..at + CHANNELS].copy_from_slice(&pixel);
            }
        }
    }
    out
}

/// Transposes up to [`STRIP`] rows of `size` values: all rows' first values, their second and so
/// on. Where rows are missing, `turned` keeps its old values.
fn turn(rows: &[u8], size: usize, turned: &mut [u8]) {
    for (half, rows) in rows.chunks(size * 8).enumerate() {
        if rows.len() < size * 8 {
            for (row, line) in rows.chunks_exact(size).enumerate() {
                for (at, &value) in line.iter().enumerate() {
                    turned[at * STRIP + half * 8 + row] = value;
                }
            }
            continue;
        }
        let whole = size / 8 * 8;
        for at in (0..whole).step_by(8) {
            let lines = array::from_fn(|row| {
                let part = &rows[row * size + at..][..8];
                u64::from_le_bytes(array::from_fn(|byte| part[byte]))
            });
            for (step, column) in turn_8(lines).into_iter().enumerate() {
                turned[(at + step) * STRIP + half * 8..][..8]
                    .copy_from_slice(&column.to_le_bytes());
            }
        }
        for at in whole..size {
            for row in 0..8 {
                turned[at * STRIP + half * 8 + row] = rows[row * size + at];
            }
        }
    }
}

/// Transposes 8 x 8 bytes, swapping blocks of 4, 2 and 1 bytes.
fn turn_8(mut lines: [u64; 8]) -> [u64; 8] {
    let steps =
        [(4, 0x0000_0000_ffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)];
    for (step, mask) in steps {
        for low in (0..8).filter(|line| line & step == 0) {
            let change = (lines[low] >> (step * 8) ^ lines[low + step]) & mask;
            lines[low + step] ^= change;
            lines[low] ^= change << (step * 8);
        }
    }
    lines
}

/// The vertical pass, to `rows` rows.
fn down<A: Arithmetic>(middle: &[A::Middle], from: Size, rows: usize) -> Vec<u8> {
    let Size { width, height } = from;
    let line = width * CHANNELS;
    let mut out = vec![0; line * rows];
    for (window, out) in A::windows(height, rows).iter().zip(out.chunks_exact_mut(line)) {
        A::second(out, &middle[window.first * line..], line, &window.weights);
    }
    out
}

/// Lines of `stride` values, and a weight for each.
struct WeightedLines<'a, T, W> {
    lines: &'a [T],
    stride: usize,
    weights: &'a [W],
}

/// Sums weighted lines, [`LANES`] values at a time: `sum` adds values times their weight to an
/// accumulator `S`, `finish` converts the accumulator to output values.
fn sum_lines<T: Copy, W: Copy, S: Copy, O: Copy>(
    out: &mut [O],
    weighted: &WeightedLines<'_, T, W>,
    zero: S,
    sum: impl Fn(&mut S, &[T; LANES], W),
    finish: impl Fn(&S) -> [O; LANES],
) {
    let &WeightedLines { lines, stride, weights } = weighted;
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    let done = whole.len() * LANES;
    for (chunk, out) in whole.iter_mut().enumerate() {
        let mut sums = zero;
        for (line, &weight) in lines[chunk * LANES..].chunks(stride).zip(weights) {
            if let Some(values) = line.first_chunk() {
                sum(&mut sums, values, weight);
            }
        }
        *out = finish(&sums);
    }
    for (at, out) in rest.iter_mut().enumerate() {
        let mut sums = zero;
        for (line, &weight) in lines[done + at..].chunks(stride).zip(weights) {
            sum(&mut sums, &[line[0]; LANES], weight);
        }
        *out = finish(&sums)[0];
    }
}

/// Pillow's arithmetic.
struct Pillow;

/// Sums of products with the high and with the low parts of weights.
#[derive(Clone, Copy)]
struct SplitSums {
    high: [i32; LANES],
    low: [i32; LANES],
}

impl Pillow {
    const ZERO: SplitSums = SplitSums { high: [0; LANES], low: [0; LANES] };

    fn sum(sums: &mut SplitSums, values: &[u8; LANES], weight: Fixed) {
        for (sum, &value) in sums.high.iter_mut().zip(values) {
            *sum += i32::from(i16::from(value)) * i32::from(weight.high);
        }
        for (sum, &value) in sums.low.iter_mut().zip(values) {
            *sum += i32::from(i16::from(value)) * i32::from(weight.low);
        }
    }

    fn clip(sums: &SplitSums) -> [u8; LANES] {
        array::from_fn(|lane| {
            let sum = (sums.high[lane] << LOW) + sums.low[lane] + (1 << (PRECISION - 1));
            (sum >> PRECISION).clamp(0, 255) as u8
        })
    }
}

impl Arithmetic for Pillow {
    type Middle = u8;
    type Weight = Fixed;

    fn windows(from: usize, to: usize) -> Vec<Window<Fixed>> {
        let scale = from as f64 / to as f64;
        let wide = scale.max(1.0);
        let (support, narrow) = (SUPPORT * wide, 1.0 / wide);
        let window = |at: usize| {
            let center = (at as f64 + 0.5) * scale;
            let first = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let weight = |at: usize| cubic((at as f64 - center + 0.5) * narrow);
            let total: f64 = (first..end).map(weight).sum();
            let fixed = |at: usize| {
                let weight = if total == 0.0 { weight(at) } else { weight(at) / total };
                let weight = weight * f64::from(1 << PRECISION);
                let weight = (if weight < 0.0 { weight - 0.5 } else { weight + 0.5 }) as i32;
                Fixed { high: (weight >> LOW) as i16, low: (weight & ((1 << LOW) - 1)) as i16 }
            };
            Window { first, weights: (first..end).map(fixed).collect() }
        };
        (0..to).map(window).collect()
    }

    fn first(out: &mut [u8], lines: &[u8], stride: usize, weights: &[Fixed]) {
        sum_lines(
            out,
            &WeightedLines { lines, stride, weights },
            Self::ZERO,
            Self::sum,
            Self::clip,
        );
    }

    fn second(out: &mut [u8], lines: &[u8], stride: usize, weights: &[Fixed]) {
        sum_lines(
            out,
            &WeightedLines { lines, stride, weights },
            Self::ZERO,
            Self::sum,
            Self::clip,
        );
    }

    fn finish(values: Vec<u8>) -> Vec<u8> {
        values
    }

    fn start(rgb: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
        rgb
    }
}

/// Keys' cubic filter with `a = -0.5`, in Pillow's order of operations.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// torchvision's arithmetic on 8-bit tensors: float32.
struct Torch;

impl Torch {
    fn whole(value: f32) -> u8 {
        // Adding and subtracting 2^23 rounds to the nearest integer, ties to even.
        const WHOLE: f32 = 8_388_608.0;
        ((value.clamp(0.0, 255.0) + WHOLE) - WHOLE) as u8
    }
}

impl Arithmetic for Torch {
    type Middle = f32;
    type Weight = f32;

    fn windows(from: usize, to: usize) -> Vec<Window<f32>> {
        let scale = from as f32 / to as f32;
        let support = if scale >= 1.0 { (SUPPORT * f64::from(scale)) as f32 } else { 2.0 };
        let narrow = if scale >= 1.0 { (1.0 / f64::from(scale)) as f32 } else { 1.0 };
        let most = support.ceil() as usize * 2 + 1;
        let window = |at: usize| {
            let center = (f64::from(scale) * (at as f64 + 0.5)) as f32;
            let first = (f64::from(center - support) + 0.5).max(0.0) as usize;
            let end = ((f64::from(center + support) + 0.5) as usize).min(from).min(first + most);
            let weight = |at: usize| {
                let x = (f64::from(at as f32 - center) + 0.5) * f64::from(narrow);
                cubic_32(x as f32)
            };
            let total = (first..end).map(weight).fold(0.0, |sum: f32, weight| sum + weight);
            let share = |at: usize| if total == 0.0 { weight(at) } else { weight(at) / total };
            Window { first, weights: (first..end).map(share).collect() }
        };
        (0..to).map(window).collect()
    }

    fn first(out: &mut [f32], lines: &[u8], stride: usize, weights: &[f32]) {
        let sum = |sums: &mut [f32; LANES], values: &[u8; LANES], weight: f32| {
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += f32::from(value) * weight;
            }
        };
        sum_lines(out, &WeightedLines { lines, stride, weights }, [0.0; LANES], sum, |sums| *sums);
    }

    fn second(out: &mut [u8], lines: &[f32], stride: usize, weights: &[f32]) {
        let sum = |sums: &mut [f32; LANES], values: &[f32; LANES], weight: f32| {
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += value * weight;
            }
        };
        sum_lines(out, &WeightedLines { lines, stride, weights }, [0.0; LANES], sum, |sums| {
            sums.map(Self::whole)
        });
    }

    fn finish(values: Vec<f32>) -> Vec<u8> {
        values.into_iter().map(Self::whole).collect()
    }

    fn start(rgb: Cow<'_, [u8]>) -> Cow<'_, [f32]> {
        rgb.iter().map(|&value| f32::from(value)).collect()
    }
}

/// The same filter in float32, in torch's order of operations.
fn cubic_32(x: f32) -> f32 {
    const A: f32 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests;
