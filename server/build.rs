//! Compiles the gRPC definitions of `openapi/`, without a `protoc` on the machine.
//!
//! Must not know: how they are served.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const FOLDER: &str = "../openapi";
const FILES: [&str; 2] = ["tei.proto", "proxima.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={FOLDER}/{file}");
    }
    let files = protox::compile(FILES, [FOLDER])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    // What reflection tells of the services.
    std::fs::write(out.join("grpc_descriptors.bin"), files.encode_to_vec())?;
    tonic_prost_build::configure()
        // Clients are for tests.
        .client_mod_attribute(".", "#[cfg(test)]")
        .build_transport(false)
        .compile_fds(files)?;
    Ok(())
}
