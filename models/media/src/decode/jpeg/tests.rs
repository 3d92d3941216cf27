//! Pixels equal Pillow's (`tests/golden/media/jpeg`, written by `tests/reference/make_jpeg.py`),
//! and corrupt files are rejected.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::*;

fn decode(bytes: &[u8]) -> Result<Picture, Problem> {
    super::decode(bytes, &DecodeLimits::of(1 << 20))
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/media/jpeg").join(name)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(golden(&format!("{name}.jpg"))).expect("a picture")
}

fn why(bytes: &[u8]) -> String {
    match decode(bytes) {
        Err(Problem::Damaged(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_kind_has_the_reference_s_pixels() {
    let list = std::fs::read_to_string(golden("pixels.txt")).expect("the list");
    assert!(list.lines().count() > 40, "a whole list");
    for line in list.lines() {
        let [name, width, height, digest] = *line.split(' ').collect::<Vec<_>>() else {
            panic!("not a line of the list: {line}");
        };
        let picture = decode(&file(name)).unwrap_or_else(|why| panic!("{name}: {why:?}"));
        let size = (picture.size.width.to_string(), picture.size.height.to_string());
        assert_eq!(size, (width.into(), height.into()), "{name}");
        let digits: String =
            Sha256::digest(&picture.rgb).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digits, digest, "{name}");
    }
}

#[test]
fn what_is_cut_off_is_refused() {
    for name in ["420-33x31-base", "420-33x31-steps", "420-restarts", "grey", "cmyk"] {
        let whole = file(name);
        for length in 3..whole.len() {
            assert!(!why(&whole[..length]).is_empty(), "{name} after {length} bytes");
        }
        assert_eq!(why(&whole[..whole.len() - 2]), CUT_OFF, "{name} without its end");
        let trailing: Vec<u8> = whole.iter().chain(b"more").copied().collect();
        let rgb = |bytes: &[u8]| decode(bytes).expect("a picture").rgb;
        assert_eq!(rgb(&trailing), rgb(&whole));
    }
}

#[test]
fn what_is_changed_never_panics() {
    let (mut state, mut refused) = (1u64, 0);
    for name in ["420-17x19-base", "422-17x19-steps", "420-restarts", "grey-steps", "ycck"] {
        let whole = file(name);
        for _ in 0..400 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bytes.len();
                bytes[at] = (state >> 25) as u8;
            }
            let decoded = decode(&bytes);
            assert!(!matches!(decoded, Err(Problem::GaveUp)), "a panic");
            refused += usize::from(decoded.is_err());
        }
    }
    assert!(refused > 0, "nothing was damaged");
}

#[test]
fn what_is_not_read_is_refused_with_the_reason() {
    let whole = file("420-17x19-base");
    let frame = whole.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame");
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[frame + at] = byte;
        bytes
    };
    assert!(why(&with(1, 0xc9)).contains("arithmetic"), "{}", why(&with(1, 0xc9)));
    assert!(why(&with(1, 0xc3)).contains("Unsupported"), "{}", why(&with(1, 0xc3)));
    assert!(why(&with(4, 12)).contains("precision"), "{}", why(&with(4, 12)));
    // The size is checked before anything is allocated for it.
    let large = decode(&with(5, 0xff));
    assert!(matches!(large, Err(Problem::Media(_))), "{large:?}");
}

#[test]
fn scans_are_counted_and_bounded() {
    let count = |bytes: &[u8]| scans(bytes).count;
    let once = Scans { count: 1, buffered: false };
    assert_eq!(scans(&file("420-33x31-base")), once);
    let steps = file("420-33x31-steps");
    assert!((2..20).contains(&count(&steps)) && scans(&steps).buffered, "{:?}", scans(&steps));
    // A marker inside a segment does not count; one after a reserved marker or a fill byte does.
    assert_eq!(count(&[0xff, 0xd8, 0xff, 0xe0, 0, 4, 0xff, 0xda, 0xff, 0xd9]), 0);
    assert_eq!(count(&[0xff, 0xd8, 0xff, 2, 0, 9, 0xff, 0xff, 0xda, 0, 2, 7]), 1);
    let (body, end) = steps.split_at(steps.len() - 2);
    let more = [0xff, 0xda, 0, 2].repeat(SCANS_MAX);
    let long: Vec<u8> = body.iter().chain(&more).chain(end).copied().collect();
    assert!(why(&long).contains("scans"), "{}", why(&long));
}

#[test]
fn a_panic_is_told_from_a_refusal() {
    let refused: Result<(), Problem> = caught(|| {
        open(&[0xff, 0xd8, 0xff, 0xd9])?;
        Ok(())
    });
    assert!(matches!(refused, Err(Problem::Damaged(_))), "{refused:?}");
    let panics = |message: &'static str| {
        caught::<()>(|| std::panic::resume_unwind(Box::new(message.to_owned())))
    };
    assert!(matches!(panics("index out of bounds"), Err(Problem::GaveUp)));
    let library = panics("libjpeg fatal error: Bogus marker length");
    assert!(matches!(library, Err(Problem::Damaged(_))));
}
