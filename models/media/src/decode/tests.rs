//! The memory that decoders reserve, and how their panics are reported.

use std::path::Path;

use super::*;

fn file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/media/files");
    std::fs::read(folder.join(name)).expect("a golden")
}

#[test]
fn memory_is_reserved_for_all_that_a_decoder_holds() {
    // Bytes per pixel of the decoded data and of its conversion, which are held at the same time.
    let files = [
        ("rgb.png", 3),
        ("rgba.png", 4 + 3),
        ("rgb-16.png", 6 + 3),
        ("rgba-16.png", 8 + 4),
        ("grey-alpha-16.png", 4 + 4 + 3),
        ("palette-2.png", 1 + 3),
        ("444.jpeg", 3),
        ("grey.jpeg", 1 + 3),
        ("cmyk.jpeg", 4 + 3),
        // Two bytes per coefficient.
        ("progressive-444.jpeg", 6 + 3),
        ("palette.gif", 1 + 3),
        ("lossy.webp", 3 + 3),
        ("lossless.webp", 4 + 3),
        ("lossy-alpha.webp", 1 + 4 + 3),
        ("animated.webp", 4 + 4 + 3),
        ("rgb.bmp", 3),
        ("rgba.bmp", 4 + 3),
        ("palette-4.bmp", 1 + 3),
        ("rgb-raw.tiff", 3 + 3),
        ("rgba-16.tiff", 8 + 4 + 3),
        ("turned.tiff", 3 + 3),
    ];
    for (name, bytes) in files {
        let picture = decode(&file(name), &DecodeLimits::of(1 << 20)).expect(name);
        let pixels = picture.size.pixels();
        assert!(picture.held.bytes() >= pixels * bytes, "{name}: {:?}", picture.held);
        // Not much more, since an excess makes others wait. Formats that also reserve edge blocks,
        // tables or the file are skipped: those do not grow with the pixels.
        if ![".webp", ".tiff", "progressive-444.jpeg"].iter().any(|end| name.ends_with(end)) {
            assert!(picture.held.bytes() <= pixels * (bytes + 3), "{name}: {:?}", picture.held);
        }
    }
}

#[test]
fn memory_is_reserved_for_what_follows() {
    static HERE: MemoryBudget = MemoryBudget::new();
    let after = |size: Size| size.pixels() * 1000;
    let limits = DecodeLimits { budget: &HERE, after: &after, ..DecodeLimits::of(1 << 20) };
    let picture = decode(&file("rgb.png"), &limits).expect("a picture");
    assert_eq!(HERE.held(), picture.size.pixels() * 1000);
    drop(picture);
    let gif = file("animated.gif");
    let film = animation(&gif, &limits).expect("frames").expect("several");
    assert!(HERE.held() > film.size.pixels() * 1000);
    drop(film);
    assert_eq!(HERE.held(), 0);
}

#[test]
fn a_decoder_s_panic_is_an_error_of_its_own() {
    let panic = || std::panic::resume_unwind(Box::new("on purpose"));
    assert!(matches!(guarded::<()>(panic), Err(Problem::GaveUp)));
}
