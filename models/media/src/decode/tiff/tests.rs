//! JPEG-compressed TIFF files, built from JPEG files.

use std::path::Path;

use super::super::Picture;
use super::*;

/// A tag's values: 32-bit integers or bytes.
enum Value {
    Numbers(Vec<u32>),
    Bytes(Vec<u8>),
}

use Value::{Bytes, Numbers};

fn jpeg_file(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/media/jpeg");
    std::fs::read(folder.join(format!("{name}.jpg"))).expect("a golden")
}

fn pixels(bytes: &[u8]) -> Picture {
    jpeg::decode(bytes, &DecodeLimits::of(1 << 20)).expect("a picture")
}

/// A TIFF file with `body` at offset 8, then these tags.
fn tiff(body: &[u8], mut tags: Vec<(u16, Value)>) -> Vec<u8> {
    tags.sort_by_key(|(tag, _)| *tag);
    let start = (8 + body.len()).next_multiple_of(2);
    let mut far = start + 2 + tags.len() * 12 + 4;
    let mut file = [&b"II*\0"[..], &(start as u32).to_le_bytes(), body].concat();
    file.resize(start, 0);
    file.extend((tags.len() as u16).to_le_bytes());
    let mut long_values = Vec::new();
    for (tag, value) in &tags {
        let (kind, count, bytes) = match value {
            Numbers(numbers) => {
                (4u16, numbers.len(), numbers.iter().flat_map(|n| n.to_le_bytes()).collect())
            }
            Bytes(bytes) => (7, bytes.len(), bytes.clone()),
        };
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend((count as u32).to_le_bytes());
        if bytes.len() <= 4 {
            file.extend([&bytes[..], &[0; 4][bytes.len()..]].concat());
        } else {
            file.extend((far as u32).to_le_bytes());
            far += bytes.len();
            long_values.extend(bytes);
        }
    }
    file.extend([0; 4]);
    file.extend(long_values);
    file
}

/// The tags of every JPEG-compressed file.
fn about(size: Size, photometric: u32, samples: usize) -> Vec<(u16, Value)> {
    let one = |number: usize| Numbers(vec![number as u32]);
    vec![
        (256, one(size.width)),
        (257, one(size.height)),
        (258, Numbers(vec![8; samples])),
        (259, Numbers(vec![JPEG])),
        (262, Numbers(vec![photometric])),
        (277, one(samples)),
    ]
}

/// Concatenates parts; also returns the tags with their offsets and sizes.
fn parts(of: &[&[u8]], tags: (u16, u16)) -> (Vec<u8>, Vec<(u16, Value)>) {
    let offsets = of.iter().scan(8, |at, part| {
        *at += part.len();
        Some((*at - part.len()) as u32)
    });
    let sizes = of.iter().map(|part| part.len() as u32);
    (of.concat(), vec![(tags.0, Numbers(offsets.collect())), (tags.1, Numbers(sizes.collect()))])
}

fn strips(of: &[&[u8]]) -> (Vec<u8>, Vec<(u16, Value)>) {
    parts(of, (273, 279))
}

/// Splits a JPEG file into its tables and the rest.
fn without_tables(file: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut tables, mut rest) = (vec![0xff, 0xd8], vec![0xff, 0xd8]);
    let mut at = 2;
    while file[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
        let to = if matches!(file[at + 1], 0xdb | 0xc4) { &mut tables } else { &mut rest };
        to.extend(&file[at..end]);
        at = end;
    }
    tables.extend([0xff, 0xd9]);
    rest.extend(&file[at..]);
    (tables, rest)
}

fn decoded(file: &[u8]) -> Result<Picture, Problem> {
    decode(file, &DecodeLimits::of(1 << 20))
}

fn why(file: &[u8]) -> String {
    match decoded(file) {
        Err(Problem::Damaged(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn strips_of_jpeg_have_the_pixels_of_their_files() {
    let file = jpeg_file("grey");
    let one = pixels(&file);
    let size = Size { height: one.size.height * 2, ..one.size };
    let rows = (278, Numbers(vec![one.size.height as u32]));
    let (body, extents) = strips(&[&file, &file]);
    let tags = about(size, 1, 1).into_iter().chain(extents).chain([rows]).collect();
    let both = decoded(&tiff(&body, tags)).expect("strips");
    assert_eq!(both.size, size);
    assert_eq!(both.rgb, [&one.rgb[..], &one.rgb].concat());
}

#[test]
fn tiles_of_jpeg_share_tables_and_extend_beyond_their_image() {
    let file = jpeg_file("420-33x31-base");
    let one = pixels(&file);
    let (tables, rest) = without_tables(&file);
    let (body, extents) = parts(&[&rest[..]; 4], (324, 325));
    let sides = [(322, Numbers(vec![33])), (323, Numbers(vec![31])), (347, Bytes(tables))];
    let tags = about(Size::new(50, 40), 6, 3).into_iter().chain(extents).chain(sides).collect();
    let all = decoded(&tiff(&body, tags)).expect("tiles");
    for y in 0..40 {
        for x in 0..50 {
            let pixel = |rgb: &[u8], at: usize| rgb[at * 3..at * 3 + 3].to_vec();
            let (ours, theirs) =
                (pixel(&all.rgb, y * 50 + x), pixel(&one.rgb, y % 31 * 33 + x % 33));
            assert_eq!(ours, theirs, "{x} {y}");
        }
    }
}

#[test]
fn planes_of_jpeg_are_interleaved() {
    let file = jpeg_file("grey");
    let one = pixels(&file);
    let (body, extents) = strips(&[&file[..]; 3]);
    let more = [(278, Numbers(vec![one.size.height as u32])), (284, Numbers(vec![2]))];
    let tags = about(one.size, 2, 3).into_iter().chain(extents).chain(more).collect();
    assert_eq!(decoded(&tiff(&body, tags)).expect("planes").rgb, one.rgb);
}

#[test]
fn a_strip_that_says_it_is_larger_is_refused_before_it_is_decoded() {
    let mut file = jpeg_file("grey");
    let size = pixels(&file).size;
    let frame = file.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame");
    file[frame + 5..frame + 9].copy_from_slice(&[0x40, 0, 0x40, 0]);
    let rows = (278, Numbers(vec![size.height as u32]));
    let (body, extents) = strips(&[&file]);
    let tags = about(size, 1, 1).into_iter().chain(extents).chain([rows]);
    let why = why(&tiff(&body, tags.collect()));
    assert!(why.contains("not have the size"), "{why}");
}

#[test]
fn parts_that_share_bytes_or_are_too_many_are_refused() {
    let file = jpeg_file("grey");
    let one = pixels(&file);
    let count = 20;
    let shared = |rows: usize, compression: u32, size: usize| {
        let mut tags = about(Size::new(one.size.width, rows * count), 1, 1);
        tags[3].1 = Numbers(vec![compression]);
        tags.push((278, Numbers(vec![rows as u32])));
        tags.push((273, Numbers(vec![8; count])));
        tags.push((279, Numbers(vec![size as u32; count])));
        why(&tiff(&file, tags))
    };
    for (compression, size) in [(JPEG, file.len()), (5, 1 << 20), (8, 1 << 20), (32_773, 1 << 20)] {
        let why = shared(one.size.height, compression, size);
        assert!(why.contains("more bytes than the file"), "{compression}: {why}");
    }
    assert!(shared(1, JPEG, 4).contains("whole blocks"), "{}", shared(1, JPEG, 4));
    let (body, extents) = parts(&[&file], (324, 325));
    let sides = [(322, Numbers(vec![1 << 20])), (323, Numbers(vec![1 << 10]))];
    let tags = about(Size::new(16, 16), 1, 1).into_iter().chain(extents).chain(sides).collect();
    let why = why(&tiff(&body, tags));
    assert!(why.contains("too large for the image"), "{why}");
}
