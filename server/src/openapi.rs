//! The OpenAPI document, made of the types that read and write the bodies.
//!
//! Must not know: what any part of it says.

use utoipa::OpenApi;

use crate::dialects;

#[derive(OpenApi)]
#[openapi(info(
    title = "Proxima",
    description = "Embeddings over HTTP. Every endpoint takes an optional `model`, `instruction` and output encoding.",
))]
struct Document;

/// The document, as JSON that people can read.
///
/// # Panics
/// Never: the document is plain data.
pub fn openapi_json() -> String {
    let mut document = Document::openapi();
    dialects::all().iter().for_each(|dialect| document.merge((dialect.openapi)()));
    let json = document.to_pretty_json().expect("the document is plain data");
    format!("{json}\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_document_is_the_served_one() {
        let committed = include_str!("../../openapi/openapi.json");
        assert!(
            committed == super::openapi_json(),
            "openapi/openapi.json is out of date: run `make openapi`"
        );
    }
}
