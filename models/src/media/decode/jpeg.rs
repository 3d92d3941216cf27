//! JPEG files: baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK.
//!
//! Colours are converted as libjpeg does it, which Pillow uses; its inverse cosine transform and
//! its smoothing of halved chroma differ from this decoder's by a step or two of 255.
//!
//! Must not know: other formats.

use std::array;

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::{Picture, Problem, check_size, modes};

/// Sides of a JPEG at most.
const SIDE_MAX: usize = 65_535;
/// Scans of a progressive file at most: each walks over every block.
const SCANS_MAX: usize = 128;

pub(super) fn decode(bytes: &[u8], pixels_max: usize) -> Result<Picture, Problem> {
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(SIDE_MAX)
        .set_max_height(SIDE_MAX)
        .jpeg_set_max_scans(SCANS_MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| Problem::damaged(format!("{error:?}")))?;
    let info = decoder.info().ok_or_else(|| Problem::damaged("it has no header"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let pixels = check_size(width, height, pixels_max)?;
    let space = decoder.input_colorspace().unwrap_or(ColorSpace::Unknown);
    // Stray bytes between headers are left alone, as libjpeg does; pixels that are missing or
    // damaged, which would be grey, are not.
    decoder.set_options(options.jpeg_set_out_colorspace(space).set_strict_mode(true));
    let data = decoder.decode().map_err(|error| Problem::damaged(format!("{error:?}")))?;
    if data.len() != pixels * space.num_components() {
        return Err(Problem::damaged("it has not the pixels it promises"));
    }
    let rgb = match space {
        ColorSpace::Luma => modes::grey(data.into_iter()),
        ColorSpace::RGB => data,
        ColorSpace::YCbCr => ycbcr::<3>(data),
        ColorSpace::CMYK => modes::cmyk(&inverted(data)),
        ColorSpace::YCCK => {
            // libjpeg makes CMYK of it, of which Pillow takes the inverse: the inks' last byte is
            // inverted once, the colours twice.
            let mut inks = ycbcr::<4>(data);
            inks.as_chunks_mut::<4>().0.iter_mut().for_each(|pixel| pixel[3] = 255 - pixel[3]);
            modes::cmyk(&inks)
        }
        _ => return Err(Problem::damaged("its colours are not read")),
    };
    Ok(Picture { width, height, rgb })
}

fn inverted(mut data: Vec<u8>) -> Vec<u8> {
    data.iter_mut().for_each(|number| *number = 255 - *number);
    data
}

/// Pixels that are converted side by side.
const SIDE_BY_SIDE: usize = 16;

/// Turns the first three of each `N` numbers from YCbCr to RGB, in libjpeg's 16-bit fixed point.
pub(super) fn ycbcr<const N: usize>(mut data: Vec<u8>) -> Vec<u8> {
    let (pixels, _) = data.as_chunks_mut::<N>();
    let (whole, rest) = pixels.as_chunks_mut::<SIDE_BY_SIDE>();
    for pixels in whole {
        // Apart they are computed in vectors.
        let [mut luma, mut blue, mut red] = [[0i16; SIDE_BY_SIDE]; 3];
        for (at, pixel) in pixels.iter().enumerate() {
            luma[at] = i16::from(pixel[0]);
            blue[at] = i16::from(pixel[1]);
            red[at] = i16::from(pixel[2]);
        }
        let colors: [[u8; 3]; SIDE_BY_SIDE] =
            array::from_fn(|at| color(luma[at], blue[at], red[at]));
        for (pixel, color) in pixels.iter_mut().zip(colors) {
            pixel[..3].copy_from_slice(&color);
        }
    }
    for pixel in rest {
        let [luma, blue, red] = [pixel[0], pixel[1], pixel[2]].map(i16::from);
        pixel[..3].copy_from_slice(&color(luma, blue, red));
    }
    data
}

/// A colour of YCbCr: 1.402, 0.34414, 0.71414 and 1.772 times 2^16, less whole parts that need no
/// product, so that all factors fit 16 bits.
fn color(luma: i16, blue: i16, red: i16) -> [u8; 3] {
    let (luma, blue, red) = (i32::from(luma), i32::from(blue - 128), i32::from(red - 128));
    let half = 1 << 15;
    let r = luma + red + ((26_345 * red + half) >> 16);
    let g = luma - red + ((-22_554 * blue + 18_734 * red + half) >> 16);
    let b = luma + 2 * blue + ((-14_942 * blue + half) >> 16);
    [r, g, b].map(|number| number.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_libjpegs() {
        for triple in 0..1 << 24 {
            let [luma, blue, red] =
                [triple >> 16, triple >> 8, triple].map(|number| i16::from(number as u8));
            let (y, cb, cr) = (i32::from(luma), i32::from(blue) - 128, i32::from(red) - 128);
            let half = 1 << 15;
            let r = y + ((91_881 * cr + half) >> 16);
            let g = y + ((-22_554 * cb - 46_802 * cr + half) >> 16);
            let b = y + ((116_130 * cb + half) >> 16);
            let theirs = [r, g, b].map(|number| number.clamp(0, 255) as u8);
            assert_eq!(color(luma, blue, red), theirs, "{luma} {blue} {red}");
        }
    }
}
