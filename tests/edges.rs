//! The edges between crates: which depend on which, and that each dependency is used.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    let server = Path::new(env!("CARGO_MANIFEST_DIR"));
    server.parent().expect("the server is in a workspace").to_owned()
}

/// The dependencies of a crate, those of some targets and features among them, but not those of its
/// tests and its build script.
fn manifest(path: &str) -> String {
    let text = fs::read_to_string(root().join(path)).expect("a manifest");
    let tables = text.split("\n[").filter(|table| {
        let head = table.split(']').next().unwrap_or_default();
        let own = head == "dependencies" || head.ends_with(".dependencies");
        own || head.starts_with("dependencies.") || head.contains(".dependencies.")
    });
    let tables: Vec<&str> = tables.collect();
    assert!(!tables.is_empty(), "{path} has no dependencies");
    tables.join("\n")
}

#[test]
fn crates_use_only_what_they_may() {
    let forbidden = [
        ("kernels/Cargo.toml", &["proxima", "tokio", "axum", "ureq", "tokenizers"][..]),
        (
            "models/Cargo.toml",
            &[
                "proxima-engine",
                "proxima-synth",
                "tokio",
                "axum",
                "hyper",
                "tonic",
                "prost",
                "ureq",
                "candle",
                "memmap2",
                "prometheus",
            ],
        ),
        ("models/media/Cargo.toml", &["proxima", "tokio", "axum", "ureq", "candle", "tokenizers"]),
        ("models/synth/Cargo.toml", &["proxima", "tokio", "axum", "ureq", "candle", "tokenizers"]),
        (
            "server/engine/Cargo.toml",
            &[
                "proxima-kernels",
                "proxima-media",
                "proxima-synth",
                "axum",
                "hyper",
                "tonic",
                "prost",
                "ureq",
                "candle",
                "memmap2",
                "serde",
                "prometheus",
                "tokenizers",
            ],
        ),
        (
            "server/Cargo.toml",
            &["proxima-kernels", "proxima-media", "candle", "memmap2", "\ntokenizers"],
        ),
    ];
    let mut wrong = Vec::new();
    for (path, names) in forbidden {
        let dependencies = manifest(path);
        let found = names.iter().filter(|name| dependencies.contains(**name));
        wrong.extend(found.map(|name| format!("{path}: {name}")));
    }
    assert!(wrong.is_empty(), "a crate depends on what it must not know: {wrong:?}");
}

/// All Rust code below a folder, but not that of crates within it.
fn code(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() && !path.join("Cargo.toml").exists() {
            code(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("a readable file"));
        }
    }
}

/// Names of the dependencies in a manifest, of the crate and of its tests and build script.
fn dependencies(manifest: &str) -> Vec<&str> {
    let tables = manifest.split("\n[").filter(|table| {
        let head = table.split(']').next().unwrap_or_default();
        head.ends_with("dependencies")
    });
    let lines = tables.flat_map(|table| table.lines().skip(1));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).collect()
}

#[test]
fn every_dependency_is_used() {
    // Only their features are: see the manifest.
    const FEATURES: [&str; 2] = ["getrandom", "regex-automata"];
    let crates = [
        "kernels",
        "kernels/emulator",
        "models",
        "models/media",
        "models/synth",
        "server",
        "server/engine",
    ];
    // Benchmarks of all crates, and tests of the server's, are in folders of their own.
    let (mut benches, mut tests) = (String::new(), String::new());
    code(&root().join("benches"), &mut benches);
    code(&root().join("tests"), &mut tests);
    let (mut unused, mut seen) = (Vec::new(), 0);
    for name in crates {
        let manifest =
            fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        let mut text = benches.clone();
        if name == "server" {
            text.push_str(&tests);
        }
        code(&root().join(name), &mut text);
        for dependency in dependencies(&manifest) {
            seen += 1;
            let word = dependency.replace('-', "_");
            let is_used = text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            if !FEATURES.contains(&dependency) && !is_used.into_iter().any(|used| used == word) {
                unused.push(format!("{name}: {dependency}"));
            }
        }
    }
    assert!(seen > 50, "only {seen} dependencies were found");
    assert!(unused.is_empty(), "a dependency that no code names: {unused:?}");
}
