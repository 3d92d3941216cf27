//! The server's own routes: liveness, readiness, metrics, documents.
//!
//! Must not know: any dialect.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};
use utoipa::OpenApi;

use super::life::{__path_readyz, __path_readyz_of, readyz, readyz_of};
use super::{App, Routes};

/// Its routes.
pub fn routes() -> Routes {
    Routes::new()
        .get(&["/livez"], livez)
        .get(&["/readyz"], readyz)
        .get(&["/readyz/{*model}"], readyz_of)
        .get(&["/metrics"], metrics)
        .get(&["/openapi.json", "/api-doc/openapi.json"], openapi)
        .get(&["/docs"], docs)
}

/// Their part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(livez, readyz, readyz_of, metrics, openapi, docs))]
pub struct ServiceApi;

/// Generates the OpenAPI document.
#[derive(Debug, Clone, Copy)]
pub struct DocumentText(pub fn() -> String);

/// Whether the process is alive.
#[utoipa::path(
    get, path = "/livez", tag = "server",
    responses((status = 200, body = String, content_type = "text/plain", description = "alive")),
)]
async fn livez() -> &'static str {
    "alive\n"
}

/// Metrics in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses(
        (status = 200, body = String, content_type = "text/plain", description = "the metrics"),
    ),
)]
async fn metrics(State(app): State<Arc<App>>) -> Response {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    for slot in app.registry().slots() {
        app.metrics().set_ready(slot.name(), slot.engine().is_ok());
    }
    ([(header::CONTENT_TYPE, content_type)], app.metrics().text()).into_response()
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "server",
    responses((status = 200, body = serde_json::Value, description = "the document")),
)]
async fn openapi(Extension(DocumentText(text)): Extension<DocumentText>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text()).into_response()
}

/// This document as an interactive page.
#[utoipa::path(
    get, path = "/docs", tag = "server",
    responses((status = 200, body = String, content_type = "text/html", description = "the page")),
)]
async fn docs() -> Html<&'static str> {
    Html(include_str!("docs.html"))
}
