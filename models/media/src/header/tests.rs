//! Headers of each format, whole and truncated.

use super::*;

/// The header of a TIFF file of 258 x 7 pixels with three samples, followed by its directory.
fn tiff(little: bool, large: bool) -> Vec<u8> {
    let number = |number: u64, size: usize| {
        let bytes = number.to_le_bytes()[..size].to_vec();
        if little { bytes } else { bytes.into_iter().rev().collect() }
    };
    let word = if large { 8 } else { 4 };
    let mut file = if little { b"II".to_vec() } else { b"MM".to_vec() };
    file.extend(number(if large { 43 } else { 42 }, 2));
    if large {
        file.extend([number(8, 2), number(0, 2)].concat());
    }
    // The bits per sample, eight each, are stored separately, after the directory's offset.
    let bits = file.len() + word;
    file.extend(number(bits as u64 + 10, word));
    file.extend(number(8, 2).repeat(5));
    file.extend(number(4, if large { 8 } else { 2 }));
    for (tag, kind, count, value) in
        [(256, 3, 1, 258), (257, 4, 1, 7), (258, 3, 5, bits as u64), (277, 3, 1, 3)]
    {
        file.extend([number(tag, 2), number(kind, 2), number(count, word)].concat());
        let size = match kind {
            _ if count > 1 => word,
            4 => 4,
            _ => 2,
        };
        file.extend(number(value, size));
        file.extend(vec![0; word - size]);
    }
    file
}

#[test]
fn sizes_are_read_from_headers_of_every_format() {
    let png = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0, 0, 1, 2, 0, 0, 0, 7, 8, 2]].concat();
    let jpeg = [
        &b"\xff\xd8\xff\xe0\x00\x04\x01\x02\xff\xff\xc0\x00\x11\x08"[..],
        &[0, 7, 1, 2, 3, 0, 0, 0],
    ];
    let jpeg = jpeg.concat();
    let gif = b"GIF89a\x02\x01\x07\x00".to_vec();
    let mut bmp = b"BM".to_vec();
    bmp.resize(30, 0);
    bmp[18..22].copy_from_slice(&258i32.to_le_bytes());
    bmp[22..26].copy_from_slice(&(-7i32).to_le_bytes());
    bmp[28] = 24;
    let mut core = b"BM".to_vec();
    core.resize(14, 0);
    core.extend([12, 0, 0, 0, 2, 1, 7, 0, 1, 0, 24, 0]);
    let extended = [&b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0"[..], &[1, 1, 0, 6, 0, 0]].concat();
    let bits: u32 = 257 | 6 << 14 | 1 << 28;
    let lossless = [&b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f"[..], &bits.to_le_bytes()].concat();
    let lossy = [&b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0......"[..], &[2, 1, 7, 0]].concat();
    let known = [
        (png, "png", 24),
        (jpeg, "jpeg", 24),
        (gif, "gif", 8),
        (bmp, "bmp", 24),
        (core, "bmp", 24),
        (tiff(true, false), "tiff", 24),
        (tiff(false, false), "tiff", 24),
        (tiff(true, true), "tiff", 24),
        (tiff(false, true), "tiff", 24),
        (extended, "webp", 32),
        (lossless, "webp", 32),
        (lossy, "webp", 24),
    ];
    for (bytes, format, bit_depth) in known {
        let expected = ImageHeader { format, width: 258, height: 7, bit_depth };
        assert_eq!(ImageHeader::of(&bytes), Some(expected), "{format}");
        for end in 0..bytes.len() {
            // A truncated file yields nothing, or the same.
            assert!(
                ImageHeader::of(&bytes[..end]).is_none_or(|header| header == expected),
                "{format}"
            );
        }
    }
    assert_eq!(ImageHeader::of(b"text"), None);
}
