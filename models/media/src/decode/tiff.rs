//! TIFF files: the first image. Unlike in other formats, the orientation is applied, as in Pillow.
//!
//! Must not know: other formats.

mod parts;

use std::borrow::Cow;
use std::io::Cursor;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use self::parts::TiffParts;
use super::modes::{self, Palette};
use super::{DecodeLimits, Picture, Problem, Size, check_size, jpeg};

type File<'a> = Decoder<Cursor<&'a [u8]>>;

/// Maximum bytes per pixel: four 16-bit values.
const PIXEL: usize = 8;
/// Maximum bytes of a tag's value: strip tables of large images fit.
const TAG: usize = 4 << 20;
/// Values of tags.
const WHITE_IS_ZERO: u32 = 0;
const BLACK_IS_ZERO: u8 = 1;
const PALETTE: u32 = 3;
const JPEG: u32 = 7;
const PREMULTIPLIED: u32 = 1;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits<'_>) -> Result<Picture, Problem> {
    let bytes = palette_as_grey(bytes);
    let bytes = bytes.as_ref();
    let mut file = Decoder::new(Cursor::new(bytes)).map_err(Problem::damaged)?;
    let (width, height) = file.dimensions().map_err(Problem::damaged)?;
    let size = Size::new(width as usize, height as usize);
    let pixels = check_size(size, limits.pixels_max)?;
    let most = limits.pixels_max.saturating_mul(PIXEL);
    let mut decoder_limits = Limits::default();
    decoder_limits.decoding_buffer_size = most;
    decoder_limits.intermediate_buffer_size = most;
    decoder_limits.ifd_value_size = TAG;
    file = file.with_limits(decoder_limits);
    let kind = file.colortype().map_err(Problem::damaged)?;
    let samples = tag(&mut file, Tag::SamplesPerPixel)?.unwrap_or(1) as usize;
    let bits = usize::from(kind.bit_depth()).saturating_mul(samples);
    let stored = size.width.saturating_mul(bits).div_ceil(8).saturating_mul(size.height);
    let parts = TiffParts::of(&mut file, size)?;
    parts.check(bytes.len(), stored, limits.pixels_max)?;
    // Samples as stored, interleaved or cut to 8 bits, and before and after conversion to RGB; or
    // the image before and after its orientation is applied. The file itself may be a copy.
    let needs = (stored.saturating_mul(3) + pixels * 4).max(pixels * 6) + bytes.len();
    let held = limits.take(size, if parts.are_jpeg() { needs + parts.needs() } else { needs });
    let data = if parts.are_jpeg() {
        jpeg_numbers(&parts, &mut file, bytes, kind, samples)?
    } else {
        let mut data = DecodingResult::U8(Vec::new());
        let layout = file.read_image_to_buffer(&mut data).map_err(Problem::damaged)?;
        if layout.planes > 1 { interleaved(data, layout.planes)? } else { data }
    };
    let rgb = to_rgb(&mut file, kind, data, size.width)?;
    if rgb.len() != pixels * 3 {
        return Err(Problem::damaged("it has fewer pixels than its header declares"));
    }
    let orientation = tag(&mut file, Tag::Orientation)?.unwrap_or(1);
    Ok(oriented(Picture { size, rgb, held }, orientation))
}

/// Samples of JPEG-compressed strips or tiles.
fn jpeg_numbers(
    parts: &TiffParts,
    file: &mut File<'_>,
    bytes: &[u8],
    kind: ColorType,
    samples: usize,
) -> Result<DecodingResult, Problem> {
    if kind.bit_depth() != 8 || usize::from(kind.num_samples()) != samples {
        return Err(Problem::damaged("its numbers are of an unsupported type"));
    }
    let mut numbers = parts.read_jpeg(file, bytes)?;
    if tag(file, Tag::PhotometricInterpretation)? == Some(WHITE_IS_ZERO) {
        numbers.iter_mut().for_each(|number| *number = 255 - *number);
    }
    Ok(DecodingResult::U8(numbers))
}

fn tag(file: &mut File<'_>, tag: Tag) -> Result<Option<u32>, Problem> {
    let values: Option<Vec<u32>> = file.find_tag_unsigned_vec(tag).map_err(Problem::damaged)?;
    Ok(values.and_then(|values| values.first().copied()))
}

/// The file with its first image declared grey if it has a palette: the decoder does not support
/// palettes, but indices are stored like greys.
fn palette_as_grey(bytes: &[u8]) -> Cow<'_, [u8]> {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, size: usize| {
        let part = bytes.get(at..at.checked_add(size)?)?;
        let add = |number: usize, byte: &u8| number << 8 | usize::from(*byte);
        Some(if little { part.iter().rev().fold(0, add) } else { part.iter().fold(0, add) })
    };
    let entry = || {
        let start = number(4, 4)?;
        let entries = number(start, 2)?;
        let mut offsets = (0..entries).map(|entry| start + 2 + entry * 12);
        offsets.find(|&at| number(at, 2) == Some(usize::from(PHOTOMETRIC)))
    };
    match entry() {
        Some(at) if number(at + 8, 2) == Some(PALETTE as usize) && number(2, 2) == Some(42) => {
            let mut changed = bytes.to_vec();
            changed[at + 8 + usize::from(!little)] = BLACK_IS_ZERO;
            Cow::Owned(changed)
        }
        _ => Cow::Borrowed(bytes),
    }
}

/// The tag that says what samples mean.
const PHOTOMETRIC: u16 = 262;

/// Interleaves planes that are stored one after the other.
fn interleaved(data: DecodingResult, planes: usize) -> Result<DecodingResult, Problem> {
    fn weave<T: Copy>(data: &[T], planes: usize) -> Vec<T> {
        let plane = data.len() / planes;
        (0..plane * planes).map(|at| data[at % planes * plane + at / planes]).collect()
    }
    match data {
        DecodingResult::U8(data) => Ok(DecodingResult::U8(weave(&data, planes))),
        DecodingResult::U16(data) => Ok(DecodingResult::U16(weave(&data, planes))),
        _ => Err(Problem::damaged("its numbers are of an unsupported type")),
    }
}

/// Samples in 8 bits, as in Pillow: 16-bit colours are cut to their high bytes.
fn bytes_of(data: DecodingResult) -> Result<Vec<u8>, Problem> {
    match data {
        DecodingResult::U8(data) => Ok(data),
        DecodingResult::U16(data) => Ok(modes::high_bytes(&data)),
        _ => Err(Problem::damaged("its numbers are of an unsupported type")),
    }
}

fn to_rgb(
    file: &mut File<'_>,
    kind: ColorType,
    data: DecodingResult,
    width: usize,
) -> Result<Vec<u8>, Problem> {
    let extra = tag(file, Tag::ExtraSamples)?;
    match kind {
        ColorType::Gray(bits @ (1 | 2 | 4 | 8)) => {
            let numbers = match data {
                DecodingResult::U8(data) => modes::unpack(&data, width, usize::from(bits)),
                other => return grey(file, other),
            };
            let Some(palette) = palette(file, bits)? else {
                let step = modes::grey_step(usize::from(bits));
                return Ok(modes::grey(numbers.into_iter().map(|number| number * step)));
            };
            Ok(palette.rgb(numbers.into_iter()))
        }
        ColorType::Gray(_) => grey(file, data),
        ColorType::Multiband { bit_depth: 8, num_samples: 2 } => {
            let data = bytes_of(data)?;
            let numbers = data.as_chunks::<2>().0.iter().map(|pair| pair[0]);
            Ok(match palette(file, 8)? {
                Some(palette) => palette.rgb(numbers),
                None => modes::grey(numbers),
            })
        }
        ColorType::RGB(8 | 16) => bytes_of(data),
        ColorType::RGBA(8 | 16) => {
            let mut data = bytes_of(data)?;
            match extra {
                Some(0) => return Ok(modes::drop_rest::<4>(&data)),
                Some(PREMULTIPLIED) => modes::undo_premultiplied(&mut data),
                _ => {}
            }
            Ok(modes::on_white(&data))
        }
        ColorType::CMYK(8 | 16) => Ok(modes::cmyk(&bytes_of(data)?)),
        ColorType::YCbCr(8) => Ok(jpeg::ycbcr::<3>(bytes_of(data)?)),
        other => Err(Problem::damaged(format!("{other:?} is not supported"))),
    }
}

/// Greys of more than 8 bits, clipped to 0..=255.
fn grey(file: &mut File<'_>, data: DecodingResult) -> Result<Vec<u8>, Problem> {
    // Pillow does not invert these where white is 0, but the decoder did.
    let inverse = tag(file, Tag::PhotometricInterpretation)? == Some(WHITE_IS_ZERO);
    let numbers: Vec<u8> = match data {
        DecodingResult::U16(data) => {
            let data = data.into_iter().map(|n| if inverse { u16::MAX - n } else { n });
            data.map(modes::grey_16).collect()
        }
        DecodingResult::I16(data) => data.into_iter().map(|n| n.clamp(0, 255) as u8).collect(),
        DecodingResult::I32(data) => data.into_iter().map(|n| n.clamp(0, 255) as u8).collect(),
        // Pillow reads them as signed.
        DecodingResult::U32(data) => {
            data.into_iter().map(|n| n.cast_signed().clamp(0, 255) as u8).collect()
        }
        DecodingResult::F32(data) => {
            let data = data.into_iter().map(|n| if inverse { 1.0 - n } else { n });
            data.map(|n| n.clamp(0.0, 255.0) as u8).collect()
        }
        _ => return Err(Problem::damaged("its numbers are of an unsupported type")),
    };
    Ok(modes::grey(numbers.into_iter()))
}

/// The palette of an image of `bits`-bit indices, if it has one.
fn palette(file: &mut File<'_>, bits: u8) -> Result<Option<Palette>, Problem> {
    let map: Option<Vec<u16>> =
        file.find_tag_unsigned_vec(Tag::ColorMap).map_err(Problem::damaged)?;
    let Some(map) = map else { return Ok(None) };
    let colors = 1 << bits;
    let Some((red, rest)) = map.split_at_checked(colors) else { return Ok(None) };
    let Some((green, blue)) = rest.split_at_checked(colors) else { return Ok(None) };
    let triples = red.iter().zip(green).zip(blue);
    Ok(Some(Palette::new(triples.map(|((r, g), b)| [r, g, b].map(|n| (n >> 8) as u8)))))
}

/// The image, rotated and mirrored as its orientation requires.
fn oriented(picture: Picture, orientation: u32) -> Picture {
    if !(2..=8).contains(&orientation) {
        return picture;
    }
    let Picture { size: Size { width: columns, height: rows }, rgb: numbers, held } = picture;
    let turned = orientation >= 5;
    let size = if turned { Size::new(rows, columns) } else { Size::new(columns, rows) };
    let (pixels, _) = numbers.as_chunks::<3>();
    let mut rgb = Vec::with_capacity(numbers.len());
    for y in 0..size.height {
        for x in 0..size.width {
            let (column, row) = match orientation {
                2 => (columns - 1 - x, y),
                3 => (columns - 1 - x, rows - 1 - y),
                4 => (x, rows - 1 - y),
                5 => (y, x),
                6 => (y, rows - 1 - x),
                7 => (columns - 1 - y, rows - 1 - x),
                _ => (columns - 1 - y, x),
            };
            rgb.extend(pixels[row * columns + column]);
        }
    }
    Picture { size, rgb, held }
}

#[cfg(test)]
mod tests;
