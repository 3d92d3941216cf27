//! PNG files.
//!
//! Must not know: other formats.

use std::io::Cursor;

use png::{BitDepth, ColorType, Decoder, Limits, Transformations};

use super::modes::{self, Palette};
use super::{DecodeLimits, Picture, Problem, Size, check_size};

/// Maximum bytes per pixel: four 16-bit values.
const PIXEL: usize = 8;
/// Bytes allowed for ancillary chunks and the decoder's own buffers.
const REST: usize = 16 << 20;

pub(super) fn decode(bytes: &[u8], limits: &DecodeLimits<'_>) -> Result<Picture, Problem> {
    let pixels_max = limits.pixels_max;
    let decoder_limits = Limits { bytes: pixels_max.saturating_mul(PIXEL).saturating_add(REST) };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), decoder_limits);
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(Problem::damaged)?;
    let size = Size::new(header.width as usize, header.height as usize);
    let pixels = check_size(size, pixels_max)?;
    let mut reader = decoder.read_info().map_err(Problem::damaged)?;
    let length = reader.output_buffer_size().ok_or_else(|| Problem::damaged("it is too large"))?;
    let (color, depth) = reader.output_color_type();
    let held = limits.take(size, length + pixels * converted(color, depth));
    let mut data = vec![0; length];
    let frame = reader.next_frame(&mut data).map_err(Problem::damaged)?;
    if Size::new(frame.width as usize, frame.height as usize) != size {
        return Err(Problem::damaged("its first frame does not have the size of the image"));
    }
    data.truncate(frame.buffer_size());
    let palette = reader.info().palette.as_deref().unwrap_or_default();
    let rgb = to_rgb(data, size.width, frame.color_type, frame.bit_depth, palette);
    Ok(Picture { size, rgb, held })
}

/// Maximum bytes per pixel that [`to_rgb`] holds besides the decoded data.
fn converted(color: ColorType, depth: BitDepth) -> usize {
    match (color, depth) {
        (ColorType::Rgb, BitDepth::Eight) => 0,
        (ColorType::Rgb, _) | (ColorType::Rgba, BitDepth::Eight) => 3,
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => 7,
        _ => 4,
    }
}

/// A PNG's rows as RGB, as Pillow opens and converts them: transparent colours (`tRNS`) are
/// ignored, 16-bit colours cut to their high bytes, 16-bit greys clipped at 255.
fn to_rgb(
    data: Vec<u8>,
    width: usize,
    color: ColorType,
    depth: BitDepth,
    palette: &[u8],
) -> Vec<u8> {
    let bits = depth as usize;
    let wide = bits == 16;
    let high =
        |data: Vec<u8>| if wide { data.chunks_exact(2).map(|c| c[0]).collect() } else { data };
    match color {
        ColorType::Grayscale if wide => {
            let pairs = data.as_chunks::<2>().0;
            modes::grey(pairs.iter().map(|pair| modes::grey_16(u16::from_be_bytes(*pair))))
        }
        ColorType::Grayscale => {
            let step = modes::grey_step(bits);
            modes::grey(modes::unpack(&data, width, bits).into_iter().map(|number| number * step))
        }
        ColorType::Indexed => {
            let palette = Palette::new(palette.as_chunks::<3>().0.iter().copied());
            palette.rgb(modes::unpack(&data, width, bits).into_iter())
        }
        ColorType::GrayscaleAlpha if wide => {
            // Pillow has no mode for 16-bit grey with alpha and reads it as RGBA.
            let quads = data
                .as_chunks::<4>()
                .0
                .iter()
                .flat_map(|quad| [quad[0], quad[0], quad[0], quad[2]]);
            modes::on_white(&quads.collect::<Vec<u8>>())
        }
        ColorType::GrayscaleAlpha => {
            modes::grey(data.as_chunks::<2>().0.iter().map(|pair| pair[0]))
        }
        ColorType::Rgb => high(data),
        ColorType::Rgba => modes::on_white(&high(data)),
    }
}
