//! Pillow's conversions of its modes to RGB, value for value.
//!
//! Must not know: file formats.

use std::array;

/// `round(a * b / 255)` as Pillow computes it.
pub(super) fn mul_div_255(a: u32, b: u32) -> u32 {
    div_255(a * b)
}

/// `round(a / 255)` as Pillow computes it.
fn div_255(a: u32) -> u32 {
    let a = a + 128;
    ((a >> 8) + a) >> 8
}

/// Grey values as RGB.
pub(super) fn grey(numbers: impl ExactSizeIterator<Item = u8>) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(numbers.len() * 3);
    for number in numbers {
        rgb.extend([number; 3]);
    }
    rgb
}

/// Pillow's conversion of `I;16` to 8 bits: values above 255 become white.
pub(super) fn grey_16(number: u16) -> u8 {
    number.min(255) as u8
}

/// The first three of each `N` values.
pub(super) fn drop_rest<const N: usize>(numbers: &[u8]) -> Vec<u8> {
    let (pixels, _) = numbers.as_chunks::<N>();
    let mut rgb = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        rgb.extend([pixel[0], pixel[1], pixel[2]]);
    }
    rgb
}

/// RGBA blended onto white, as Pillow's `paste` with a mask does it.
pub(super) fn on_white(rgba: &[u8]) -> Vec<u8> {
    let (pixels, _) = rgba.as_chunks::<4>();
    let mut rgb = Vec::with_capacity(pixels.len() * 3);
    for &[r, g, b, alpha] in pixels {
        let alpha = u32::from(alpha);
        let lay = |color: u8| div_255(255 * (255 - alpha) + u32::from(color) * alpha) as u8;
        rgb.extend([lay(r), lay(g), lay(b)]);
    }
    rgb
}

/// Undoes premultiplied alpha, as Pillow's `RGBa` raw mode does.
pub(super) fn undo_premultiplied(rgba: &mut [u8]) {
    for [colors @ .., alpha] in rgba.as_chunks_mut::<4>().0 {
        for color in colors {
            let undone = (u32::from(*color) * 255).checked_div(u32::from(*alpha)).unwrap_or(0);
            *color = undone.min(255) as u8;
        }
    }
}

/// CMYK (255 is full ink) to RGB.
pub(super) fn cmyk(numbers: &[u8]) -> Vec<u8> {
    let (pixels, _) = numbers.as_chunks::<4>();
    let mut rgb = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        let light = 255 - u32::from(pixel[3]);
        let shade = |ink: u8| (light - mul_div_255(u32::from(ink), light)) as u8;
        rgb.extend([shade(pixel[0]), shade(pixel[1]), shade(pixel[2])]);
    }
    rgb
}

/// An RGB palette; indices past its end are black, as in Pillow.
pub(super) struct Palette([[u8; 3]; 256]);

impl Palette {
    /// A palette of RGB triples; any after the first 256 are dropped.
    pub(super) fn new(triples: impl Iterator<Item = [u8; 3]>) -> Self {
        let mut colors = [[0; 3]; 256];
        let mut greys = true;
        for (index, (color, triple)) in colors.iter_mut().zip(triples).enumerate() {
            *color = triple;
            greys &= triple == [index as u8; 3];
        }
        // Pillow treats a palette that is empty, or maps each index to the grey of that value, as
        // grey.
        if greys { Self(array::from_fn(|index| [index as u8; 3])) } else { Self(colors) }
    }

    /// The colour of an index.
    pub(super) fn color(&self, index: u8) -> [u8; 3] {
        self.0[usize::from(index)]
    }

    /// Indices as RGB.
    pub(super) fn rgb(&self, indices: impl ExactSizeIterator<Item = u8>) -> Vec<u8> {
        let mut rgb = Vec::with_capacity(indices.len() * 3);
        for index in indices {
            rgb.extend(self.color(index));
        }
        rgb
    }
}

/// Unpacks values of 1, 2, 4 or 8 bits, in byte-aligned rows, to a byte each.
pub(super) fn unpack(packed: &[u8], width: usize, bits: usize) -> Vec<u8> {
    if bits == 8 {
        return packed.to_vec();
    }
    let mask = ((1u16 << bits) - 1) as u8;
    let mut numbers = Vec::with_capacity(packed.len() * 8 / bits);
    for row in packed.chunks_exact((width * bits).div_ceil(8)) {
        let starts = (0..width).map(|column| column * bits);
        numbers.extend(starts.map(|bit| (row[bit / 8] >> (8 - bits - bit % 8)) & mask));
    }
    numbers
}

/// The factor that scales a grey of `bits` bits to 0..=255.
pub(super) fn grey_step(bits: usize) -> u8 {
    match bits {
        1 => 255,
        2 => 85,
        4 => 17,
        _ => 1,
    }
}

/// The high bytes of 16-bit values.
pub(super) fn high_bytes(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().map(|number| (number >> 8) as u8).collect()
}
