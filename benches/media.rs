//! Time from an image's bytes to the pixels that a vision network gets, decoded and resized:
//! `benches/media_peer.py` writes the files and times Pillow, then
//! `cargo bench -p proxima-media --bench media`.

use std::fs;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use proxima_media::{MediaFile, MediaOptions, Preprocessor};

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/media");
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("no files in {}: run benches/media_peer.py first", folder.display());
        return Vec::new();
    };
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.sort();
    files
}

fn images(criterion: &mut Criterion) {
    let options = MediaOptions { cache_bytes_max: 0, ..MediaOptions::default() };
    let preprocessor = Preprocessor::new(&options, 32);
    let mut group = criterion.benchmark_group("image");
    group.sample_size(20);
    for path in files() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = MediaFile::new(fs::read(&path).expect("a file"));
        group.bench_function(name, |bench| bench.iter(|| preprocessor.image(&file)));
    }
    group.finish();
}

criterion_group!(benches, images);
criterion_main!(benches);
