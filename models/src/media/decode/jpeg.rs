//! JPEG files: baseline and progressive; grey, YCbCr, RGB, CMYK and YCCK.
//!
//! Colours are converted as libjpeg does it, which Pillow uses; its inverse cosine transform and
//! its smoothing of halved chroma differ from this decoder's by a step or two of 255.
//!
//! Must not know: other formats.

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
        .set_strict_mode(true)
        .set_max_width(SIDE_MAX)
        .set_max_height(SIDE_MAX)
        .jpeg_set_max_scans(SCANS_MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| Problem::damaged(format!("{error:?}")))?;
    let info = decoder.info().ok_or_else(|| Problem::damaged("it has no header"))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let pixels = check_size(width, height, pixels_max)?;
    let space = decoder.input_colorspace().unwrap_or(ColorSpace::Unknown);
    decoder.set_options(options.jpeg_set_out_colorspace(space));
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

/// Turns the first three of each `N` numbers from YCbCr to RGB, in libjpeg's 16-bit fixed point.
pub(super) fn ycbcr<const N: usize>(mut data: Vec<u8>) -> Vec<u8> {
    for pixel in data.as_chunks_mut::<N>().0 {
        let luma = i32::from(pixel[0]);
        let (blue, red) = (i32::from(pixel[1]) - 128, i32::from(pixel[2]) - 128);
        let half = 1 << 15;
        let r = luma + ((91_881 * red + half) >> 16);
        let g = luma + ((-22_554 * blue - 46_802 * red + half) >> 16);
        let b = luma + ((116_130 * blue + half) >> 16);
        pixel[0] = r.clamp(0, 255) as u8;
        pixel[1] = g.clamp(0, 255) as u8;
        pixel[2] = b.clamp(0, 255) as u8;
    }
    data
}
