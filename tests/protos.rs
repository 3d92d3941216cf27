//! Checks that the committed gRPC code matches its definitions in `openapi/`, so that builds of the
//! server need no protobuf compiler. `make protos` regenerates it.

use std::fs;
use std::path::Path;

use prost::Message as _;

const FILES: [&str; 2] = ["tei.proto", "proxima.proto"];

/// Compiles the definitions into a folder, without needing `protoc`.
fn generate(out: &Path) {
    let definitions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi");
    let files = protox::compile(FILES, [definitions]).expect("valid definitions");
    // Descriptors for the reflection service.
    fs::write(out.join("descriptors.bin"), files.encode_to_vec()).expect("a writable folder");
    tonic_prost_build::configure()
        // Only tests use clients.
        .client_mod_attribute(".", "#[cfg(test)]")
        .build_transport(false)
        .out_dir(out)
        .compile_fds(files)
        .expect("code");
}

#[test]
fn the_code_of_grpc_is_that_of_its_definitions() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/dialects/grpc/generated");
    if std::env::var_os("PROXIMA_WRITE_PROTOS").is_some() {
        generate(&committed);
    }
    let fresh = tempfile::tempdir().expect("a folder");
    generate(fresh.path());
    let names = |folder: &Path| {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<_> = entries.map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(fresh.path()), names(&committed));
    for name in names(fresh.path()) {
        let same = fs::read(fresh.path().join(&name)).expect("a file")
            == fs::read(committed.join(&name)).expect("a file");
        assert!(same, "{name:?} is not what openapi/*.proto give: run `make protos`");
    }
}
