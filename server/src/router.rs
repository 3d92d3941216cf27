//! Assembles everything that is served: the routes of all dialects, the shapes of their failures,
//! the OpenAPI document.
//!
//! Must not know: what bodies contain, how requests are limited.

use std::future::Future;
use std::sync::Arc;

use axum::response::Response;
use axum::{Extension, Router};

use crate::http::{self, App, DocumentText, Listeners, Owners, Routes, Unshaped};
use crate::noted::note_failure;
use crate::{dialects, openapi};

/// How paths map to the dialects that own them.
const OWNERS: Owners = Owners { shape: shaped, name: |route| dialects::owner(route).name };

/// Every route served over HTTP.
pub fn routes() -> Routes {
    let dialects = dialects::all().into_iter().map(|dialect| (dialect.routes)());
    dialects.fold(dialects::shared::routes(), Routes::merge).merge(http::service_routes())
}

/// The OpenAPI document, as pretty-printed JSON.
pub fn document() -> String {
    openapi::openapi_json(routes().listed())
}

/// The router of everything served over HTTP, with all layers.
pub fn router(app: Arc<App>) -> Router {
    let routes = routes().layer(|router| router.layer(Extension(DocumentText(document))));
    http::layered(routes, app, OWNERS)
}

/// Serves until `shutdown` resolves, then lets accepted requests finish within the drain time.
pub async fn serve(listeners: Listeners, app: Arc<App>, shutdown: impl Future<Output = ()>) {
    let http = router(app.clone());
    let routers = http::Routers { http, grpc: dialects::grpc, shape: shaped };
    http::serve(listeners, app, routers, shutdown).await;
}

/// Gives a failure the shape of the dialect that owns its path, and keeps headers that layers
/// added, and what the request holds until its response is written.
fn shaped(mut response: Response) -> Response {
    let Some(Unshaped { path, failure }) = response.extensions_mut().remove() else {
        return response;
    };
    note_failure(&failure);
    let mut shaped = dialects::failure_at(path.as_deref().unwrap_or_default(), &failure);
    let (parts, _) = response.into_parts();
    shaped.extensions_mut().extend(parts.extensions);
    for (name, value) in &parts.headers {
        if !shaped.headers().contains_key(name) {
            shaped.headers_mut().insert(name, value.clone());
        }
    }
    shaped
}
