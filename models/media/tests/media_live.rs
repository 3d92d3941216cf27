//! Cached pixels do not block decoding. Alone in its process, since all its pixels are counted.

use std::sync::Arc;

use proxima_media::{MediaError, MediaFile, MediaOptions, Pixels, Preprocessor};

const SIDE: usize = 512;
/// Bytes of one image.
const BYTES: usize = SIDE * SIDE * 3;

/// A BMP filled with one grey.
fn bitmap(grey: u8) -> MediaFile {
    let side = (SIDE as u32).to_le_bytes();
    let [offset, header] = [54u32, 40].map(u32::to_le_bytes);
    let head = [&b"BM"[..], &[0; 8], &offset, &header, &side, &side, &[1, 0, 24, 0], &[0; 24]];
    MediaFile::new([head.concat(), vec![grey; BYTES]].concat())
}

#[test]
fn cached_pixels_do_not_count_against_the_limit() {
    let options = MediaOptions {
        cache_bytes_max: 4 * BYTES,
        live_bytes_max: BYTES,
        ..MediaOptions::default()
    };
    let preprocessor = Preprocessor::new(&options, 32);
    let image = |grey: u8| preprocessor.image(&bitmap(grey));
    for grey in 0..20 {
        let pixels = image(grey).expect("an image, whatever is cached");
        assert_eq!(pixels.bytes(), BYTES);
    }
    assert_eq!(Pixels::live_bytes(), 4 * BYTES);
    // Pixels in use are counted.
    let mut waiting: Vec<Arc<Pixels>> = Vec::new();
    let error = (100..200).find_map(|grey| image(grey).map(|pixels| waiting.push(pixels)).err());
    assert_eq!(error, Some(MediaError::Full { limit: BYTES }));
    assert_eq!(waiting.len(), 4 + 2, "what caches may hold, the limit, and one above it");
    // Cached pixels are returned even above the limit.
    let last = 100 + waiting.len() as u8 - 1;
    assert!(image(last).is_ok());
    waiting.clear();
    assert!(image(250).is_ok());
}
