//! Windows bitmaps (BMP): those that Pillow reads, decoded as by Pillow.
//!
//! Must not know: other formats.

use super::modes::{self, Palette};
use super::{DecodeLimits, Picture, Problem, Size, check_size};

/// A bitmap's header.
struct Header {
    /// Bytes of the header, after the file header's 14.
    size: usize,
    width: usize,
    height: usize,
    top_down: bool,
    bits: usize,
    compression: u32,
    colors: usize,
    /// Bit masks of red, green, blue and alpha, if the compression is [`BIT_FIELDS`].
    masks: [u32; 4],
}

const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BIT_FIELDS: u32 = 3;

/// For 32-bit pixels: bit masks of red, green, blue and alpha, and the offsets of their bytes in a
/// pixel.
const LAYOUTS: [([u32; 4], [usize; 4]); 8] = [
    ([0xff_0000, 0xff00, 0xff, 0], [2, 1, 0, OPAQUE]),
    ([0xff00_0000, 0xff_0000, 0xff00, 0], [3, 2, 1, OPAQUE]),
    ([0xff00_0000, 0xff00, 0xff, 0], [3, 1, 0, OPAQUE]),
    ([0xff00_0000, 0xff_0000, 0xff00, 0xff], [3, 2, 1, 0]),
    ([0xff, 0xff00, 0xff_0000, 0xff00_0000], [0, 1, 2, 3]),
    ([0xff_0000, 0xff00, 0xff, 0xff00_0000], [2, 1, 0, 3]),
    ([0xff00_0000, 0xff00, 0xff, 0xff_0000], [3, 1, 0, 2]),
    ([0, 0, 0, 0], [2, 1, 0, 3]),
];
/// The offset if there is no byte of alpha.
const OPAQUE: usize = usize::MAX;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits<'_>) -> Result<Picture, Problem> {
    let header = header(bytes)?;
    let size = Size::new(header.width, header.height);
    let pixels = check_size(size, limits.pixels_max)?;
    let entry = if header.size == 12 { 3 } else { 4 };
    let mut palette_at = 14 + header.size;
    if header.compression == BIT_FIELDS && header.size == 40 {
        palette_at += 12;
    }
    let mut start = read(bytes, 10, 4)? as usize;
    if start == palette_at && header.bits <= 8 {
        start = start.saturating_add(header.colors.saturating_mul(entry));
    } else if start == 0 {
        let colors = if header.bits <= 8 { header.colors.saturating_mul(entry) } else { 0 };
        start = palette_at.saturating_add(colors);
    }
    let data = bytes.get(start..).ok_or_else(|| Problem::damaged("its pixels are missing"))?;
    // The image, and before it RGBA, or packed and unpacked indices.
    let pixel = 3 + if header.bits == 32 {
        4
    } else if header.bits > 8 {
        0
    } else {
        2
    };
    let held = limits.take(size, pixels * pixel);
    let rgb = if header.bits > 8 {
        colors(raw_rows(data, &header)?.into_iter(), &header)?
    } else {
        let palette = palette(bytes, palette_at, entry, &header)?;
        let indices = match header.compression {
            RLE8 | RLE4 => {
                let mut indices = run_lengths(data, start, &header, pixels)?;
                if !header.top_down {
                    turn_over(&mut indices, header.width);
                }
                indices
            }
            _ => {
                let packed = raw_rows(data, &header)?.concat();
                modes::unpack(&packed, header.width, header.bits)
            }
        };
        palette.rgb(indices.into_iter())
    };
    Ok(Picture { size, rgb, held })
}

/// The little-endian integer of `size` bytes at an offset.
fn read(bytes: &[u8], at: usize, size: usize) -> Result<u32, Problem> {
    let part = bytes.get(at..at + size).ok_or_else(|| Problem::damaged("its header is cut off"))?;
    Ok(part.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)))
}

fn header(bytes: &[u8]) -> Result<Header, Problem> {
    let size = read(bytes, 14, 4)? as usize;
    let at = |offset: usize, size: usize| read(bytes, 14 + offset, size);
    let mut header = match size {
        12 => Header {
            size,
            width: at(4, 2)? as usize,
            height: at(6, 2)? as usize,
            top_down: false,
            bits: at(10, 2)? as usize,
            compression: RAW,
            colors: 0,
            masks: [0; 4],
        },
        40 | 52 | 56 | 64 | 108 | 124 => {
            let (height, top_down) = (at(8, 4)?, at(11, 1)? == 0xff);
            Header {
                size,
                width: at(4, 4)? as usize,
                height: if top_down { height.wrapping_neg() } else { height } as usize,
                top_down,
                bits: at(14, 2)? as usize,
                compression: at(16, 4)?,
                colors: at(32, 4)? as usize,
                masks: [0; 4],
            }
        }
        _ => return Err(Problem::damaged("its header is of an unsupported type")),
    };
    let paletted = matches!(header.bits, 1 | 4 | 8);
    if !paletted && !matches!(header.bits, 16 | 24 | 32) {
        return Err(Problem::damaged("its number of bits per pixel is not supported"));
    }
    match header.compression {
        RAW => {}
        RLE8 | RLE4 if paletted => {}
        BIT_FIELDS if !paletted => {
            let with_alpha = size >= 56;
            for (index, mask) in header.masks.iter_mut().enumerate() {
                if index < 3 || with_alpha {
                    *mask = at(40 + 4 * index, 4)?;
                }
            }
        }
        _ => return Err(Problem::damaged("its compression is not supported")),
    }
    if header.colors == 0 {
        header.colors = 1 << header.bits.min(16);
    }
    Ok(header)
}

/// Reverses the order of rows.
fn turn_over(rows: &mut [u8], row: usize) {
    let count = rows.len() / row;
    for y in 0..count / 2 {
        let (above, below) = rows.split_at_mut((count - 1 - y) * row);
        above[y * row..(y + 1) * row].swap_with_slice(&mut below[..row]);
    }
}

/// Rows of raw pixels, top to bottom, without their padding to four bytes.
fn raw_rows<'a>(data: &'a [u8], header: &Header) -> Result<Vec<&'a [u8]>, Problem> {
    let used = (header.width * header.bits).div_ceil(8);
    let stride = used.next_multiple_of(4);
    if data.len() < stride * (header.height - 1) + used {
        return Err(Problem::damaged("its pixels are cut off"));
    }
    let rows = data.chunks(stride).take(header.height).map(|row| &row[..used]);
    let mut rows: Vec<_> = rows.collect();
    if !header.top_down {
        rows.reverse();
    }
    Ok(rows)
}

/// The palette, whose entries are stored as BGR.
fn palette(bytes: &[u8], at: usize, entry: usize, header: &Header) -> Result<Palette, Problem> {
    if header.colors > 65_536 {
        return Err(Problem::damaged("its palette is too large"));
    }
    let entries = bytes.get(at..).unwrap_or_default().chunks_exact(entry).take(header.colors);
    Ok(Palette::new(entries.map(|color| [color[2], color[1], color[0]])))
}

/// Pixels of 16, 24 or 32 bits as RGB.
fn colors<'a>(rows: impl Iterator<Item = &'a [u8]>, header: &Header) -> Result<Vec<u8>, Problem> {
    let unknown = || Problem::damaged("its bit fields are not supported");
    let fields = header.compression == BIT_FIELDS;
    let [red, green, blue, _] = header.masks;
    let size = header.width * header.height;
    match header.bits {
        16 => {
            let six = match (fields, red, green, blue) {
                (false, ..) | (_, 0x7c00, 0x3e0, 0x1f) => false,
                (_, 0xf800, 0x7e0, 0x1f) => true,
                _ => return Err(unknown()),
            };
            let mut rgb = Vec::with_capacity(size * 3);
            for pair in rows.flat_map(|row| row.as_chunks::<2>().0) {
                let pixel = u32::from(u16::from_le_bytes(*pair));
                let five = |shift: u32| ((pixel >> shift & 31) * 255 / 31) as u8;
                let six_bits = ((pixel >> 5 & 63) * 255 / 63) as u8;
                rgb.extend(if six {
                    [five(11), six_bits, five(0)]
                } else {
                    [five(10), five(5), five(0)]
                });
            }
            Ok(rgb)
        }
        24 if fields && (red, green, blue) != (0xff_0000, 0xff00, 0xff) => Err(unknown()),
        24 => {
            let mut rgb = Vec::with_capacity(size * 3);
            for row in rows {
                let at = rgb.len();
                rgb.extend_from_slice(row);
                // Blue comes first.
                rgb[at..].as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| pixel.swap(0, 2));
            }
            Ok(rgb)
        }
        _ => {
            let layout = LAYOUTS.iter().find(|(masks, _)| !fields || *masks == header.masks);
            let (_, offsets) = layout.ok_or_else(unknown)?;
            let mut rgba = Vec::with_capacity(size * 4);
            for pixel in rows.flat_map(|row| row.as_chunks::<4>().0) {
                rgba.extend(offsets.map(|offset| pixel.get(offset).copied().unwrap_or(255)));
            }
            Ok(if offsets[3] == OPAQUE {
                modes::drop_rest::<4>(&rgba)
            } else {
                modes::on_white(&rgba)
            })
        }
    }
}

/// Indices of a run-length encoded bitmap; pixels skipped by line ends and jumps are 0.
fn run_lengths(
    data: &[u8],
    start: usize,
    header: &Header,
    pixels: usize,
) -> Result<Vec<u8>, Problem> {
    let (width, four) = (header.width, header.compression == RLE4);
    let mut out: Vec<u8> = Vec::with_capacity(pixels);
    let (mut at, mut x) = (0, 0);
    while let (Some(&count), Some(&byte), true) =
        (data.get(at), data.get(at + 1), out.len() < pixels)
    {
        at += 2;
        let nibbles = [byte >> 4, byte & 15];
        match (usize::from(count), usize::from(byte)) {
            (0, 0) => {
                out.resize(out.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let (Some(&right), Some(&up)) = (data.get(at), data.get(at + 1)) else { break };
                at += 2;
                let skipped = usize::from(right) + usize::from(up) * width;
                out.resize((out.len() + skipped).min(pixels), 0);
                x = out.len() % width;
            }
            (0, absolute) => {
                let taken = absolute.min(pixels - out.len());
                let size = if four { taken.div_ceil(2) } else { taken };
                let Some(part) = data.get(at..at + size) else { break };
                at += size;
                if four {
                    let numbers = part.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                    out.extend(numbers.take(taken));
                } else {
                    out.extend_from_slice(part);
                }
                x += absolute;
                at += (start + at) % 2;
            }
            (run, _) => {
                let run = run.min(width.saturating_sub(x)).min(pixels - out.len());
                out.extend((0..run).map(|at| if four { nibbles[at % 2] } else { byte }));
                x += run;
            }
        }
    }
    if out.len() < pixels {
        return Err(Problem::damaged("its pixels are cut off"));
    }
    Ok(out)
}
