//! Paths: redundant slashes, and text in paths.
//!
//! Must not know: which paths there are.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Request};
use axum::http::Uri;
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::middleware::Next;
use axum::response::Response;

use super::unshaped::unshaped;
use super::{App, Failure};

/// Removes doubled and trailing slashes from a request's path. This runs before routing and before
/// the key is checked, so that both see the same path.
pub async fn normalize(mut request: Request, next: Next) -> Response {
    if let Some(uri) = normalized(request.uri()) {
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

/// The same URI with single slashes; `None` if it has no others.
fn normalized(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && (path.len() <= 1 || !path.ends_with('/')) {
        return None;
    }
    let mut text = String::with_capacity(path.len());
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        text.push('/');
        text.push_str(segment);
    }
    if text.is_empty() {
        text.push('/');
    }
    if let Some(query) = uri.query() {
        text.push('?');
        text.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

/// The rest of a path after its route, percent-decoded.
pub struct PathText(pub String);

impl FromRequestParts<Arc<App>> for PathText {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        match Path::<String>::from_request_parts(parts, app).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => {
                let message = "the path is not UTF-8 once it is percent-decoded".into();
                let failure = Failure::Malformed { message };
                app.metrics().refused(&failure);
                Err(unshaped(parts.uri.path(), &failure))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_single_and_between_segments() {
        let text =
            |uri: &'static str| normalized(&Uri::from_static(uri)).map(|uri| uri.to_string());
        for (given, wanted) in [
            ("/embed/", "/embed"),
            ("//embed", "/embed"),
            ("/v1//embeddings//?a=//b/", "/v1/embeddings?a=//b/"),
            ("//", "/"),
            ("http://host//metrics/", "http://host/metrics"),
        ] {
            assert_eq!(text(given).as_deref(), Some(wanted), "{given}");
        }
        // An encoded slash is not a slash of the path.
        for right in ["/", "/embed", "/v1/models/a%2F%2Fb", "*", "/embed?path=//"] {
            assert_eq!(text(right), None, "{right}");
        }
    }
}
