use std::fs;

use sha2::{Digest, Sha256};

use super::*;

/// The pixels that `tests/reference/make_media.py` draws.
fn noise(width: usize, height: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut number = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..width * height * CHANNELS).map(|_| number()).collect()
}

fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/golden/media/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read(path).expect("a golden")
}

fn lines(name: &str) -> Vec<Vec<String>> {
    let text = String::from_utf8(golden(name)).expect("text");
    text.lines().map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

fn numbers(words: &[String]) -> Vec<usize> {
    words.iter().map(|word| word.parse().expect("a number")).collect()
}

#[test]
fn every_bit_equals_pillow() {
    let mut wrong = Vec::new();
    for line in lines("resample.txt") {
        let [w, h, w2, h2, seed] = numbers(&line[1..6])[..] else { panic!("{line:?}") };
        let out = pillow(noise(w, h, seed as u64), Size::new(w, h), Size::new(w2, h2));
        let digest: String = Sha256::digest(&out).iter().map(|b| format!("{b:02x}")).collect();
        if digest != line[6] {
            wrong.push(line.join(" "));
        }
    }
    assert!(wrong.is_empty(), "{} differ: {wrong:#?}", wrong.len());
}

#[test]
fn torchvision_is_matched_except_at_ties() {
    let expected = golden("torch.bin");
    let (mut all, mut different) = (0, 0);
    for line in lines("torch.txt") {
        let [w, h, w2, h2, seed, at] = numbers(&line)[..] else { panic!("{line:?}") };
        let out = torch(noise(w, h, seed as u64).into(), Size::new(w, h), Size::new(w2, h2));
        for (ours, theirs) in out.iter().zip(&expected[at..at + w2 * h2 * CHANNELS]) {
            assert!(ours.abs_diff(*theirs) <= 1, "{line:?}: {ours} {theirs}");
            different += usize::from(ours != theirs);
            all += 1;
        }
    }
    println!("{different} of {all} differ");
    assert!(different * 10_000 <= all, "{different} of {all}");
}

#[test]
fn strips_of_any_height_are_turned() {
    for (width, height) in [(1, 1), (3, 7), (9, 8), (16, 15), (5, 16)] {
        let rows = noise(width, height, 7);
        let size = width * CHANNELS;
        let mut turned = vec![0; width * BLOCK];
        turn(&rows, size, &mut turned);
        for row in 0..height {
            for at in 0..size {
                assert_eq!(turned[at * STRIP + row], rows[row * size + at]);
            }
        }
    }
}
