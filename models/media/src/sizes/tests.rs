use std::fs;

use super::*;

fn lines() -> Vec<String> {
    let path = format!("{}/../../tests/golden/media/sizes.txt", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).expect("a golden");
    text.lines().map(str::to_owned).collect()
}

/// The expected result in a golden's line, and the computed one.
fn compare(line: &str) -> (String, String) {
    let words: Vec<&str> = line.split(' ').collect();
    let float = |at: usize| words[at].parse::<f64>().expect("a number");
    let number = |at: usize| words[at].parse::<usize>().expect("a number");
    let size = |result: Result<Size, MediaError>| {
        let size = result.unwrap_or(Size::new(0, 0));
        format!("{} {}", size.width, size.height)
    };
    let joined =
        |indices: Vec<usize>| indices.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    match words[0] {
        "image" => (words[3..].join(" "), size(image(Size::new(number(1), number(2)), 32))),
        "list" => (words[3..].join(" "), size(list_frame(Size::new(number(1), number(2)), 32))),
        "frame" => {
            let ours = frame(Size::new(number(3), number(4)), 32, number(1), number(2) == 1);
            (words[5..].join(" "), size(ours))
        }
        "file" => {
            let ours = file_indices(number(1), float(2), float(3), number(4));
            (words[5..].join(" "), joined(ours.unwrap_or_default()))
        }
        _ => (words[2..].join(" "), joined(list_indices(number(1)))),
    }
}

#[test]
fn sizes_and_frames_are_the_references() {
    let lines = lines();
    assert!(lines.len() > 1000);
    for line in lines {
        let (theirs, ours) = compare(&line);
        assert_eq!(theirs, ours, "{line}");
    }
}

#[test]
fn pairs_are_shown_at_the_mean_of_their_times() {
    assert_eq!(seconds(&[0, 1, 2, 3], 2.0), [0.25, 1.25]);
    assert_eq!(seconds(&[0, 30, 61], 30.0), [0.5, 61.0 / 30.0]);
}
