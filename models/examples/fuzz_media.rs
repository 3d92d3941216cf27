//! Takes damaged images and animations for as long as it is told: `fuzz_media [seconds] [seed]
//! [ending]`; with an ending, of the format whose files have it.
//! A panic, memory that grows or an allocation that fails ends it.

#[path = "../tests/support/mutations.rs"]
mod mutations;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mutations::{Random, mutate, preprocessor, take};
use proxima_models::media::MediaFile;

/// Kilobytes of memory in use at most so far, where the system tells.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let (seconds, seed) = (number(0).unwrap_or(60), number(1).unwrap_or(1));
    let ending = words.get(2).map_or("", String::as_str);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/media/files");
    let entries = fs::read_dir(folder).expect("seed files");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.display().to_string().ends_with(ending));
    paths.sort();
    assert!(!paths.is_empty(), "no file ends with {ending:?}");
    let files: Vec<_> = paths.iter().map(|path| fs::read(path).expect("a file")).collect();
    let sound = Arc::new(MediaFile::new(files[0].clone()));
    let preprocessor = preprocessor();
    let mut random = Random::new(seed);
    let (mut runs, mut taken) = (0u64, 0u64);
    let start = Instant::now();
    let mut slowest = (Duration::ZERO, String::new());
    while start.elapsed() < Duration::from_secs(seconds) {
        let at = random.below(files.len());
        let other = &files[random.below(files.len())];
        let bytes = mutate(&files[at], other, &mut random);
        let before = Instant::now();
        taken += u64::from(take(&preprocessor, bytes, &sound));
        runs += 1;
        if before.elapsed() > slowest.0 {
            slowest = (before.elapsed(), paths[at].display().to_string());
        }
    }
    println!("{runs} files, {taken} of them still images; slowest {slowest:?}; peak {} KB", peak());
    assert!(peak() < 1 << 20, "memory");
}
