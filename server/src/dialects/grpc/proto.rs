//! What is generated from `openapi/*.proto`.
//!
//! Must not know: anything; nothing is written here by hand.

/// The API of text-embeddings-inference.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod tei {
    tonic::include_proto!("tei.v1");
}

/// Proxima's own API.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod proxima {
    tonic::include_proto!("proxima.v1");
}

/// Both, as reflection tells them.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("grpc_descriptors");
