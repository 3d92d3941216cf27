//! Code generated from `openapi/*.proto` (by `make protos`).
//!
//! Must not know: anything; nothing is written here by hand.

/// The API of text-embeddings-inference.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod tei {
    include!("generated/tei.v1.rs");
}

/// Proxima's own API.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod proxima {
    include!("generated/proxima.v1.rs");
}

/// Descriptors of both, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/descriptors.bin");
