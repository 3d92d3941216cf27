//! Browsers: which web pages may call the server (CORS), and which may not.
//!
//! A server without a key can be reached by every page that its user opens, by a form or a simple
//! request; and a page whose own name resolves to this machine (DNS rebinding) could read the
//! responses. Browsers identify the caller in `Origin` and `Sec-Fetch-Site`, which pages cannot
//! set.
//! Must not know: paths, bodies.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{self, Next};
use axum::response::Response;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

use super::unshaped::unshaped;
use super::{App, Failure, HttpConfig, Origins};

/// How long a browser may cache the response to a preflight, in seconds.
const PREFLIGHT_SECONDS: u64 = 7_200;

/// Whether a request comes from a page that may not call a server with these settings. With API
/// keys nothing is refused here, since pages do not have a key.
pub fn is_refused(config: &HttpConfig, request: &Request) -> bool {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    config.api_keys.is_empty() && config.browsers.refuse(method, uri, headers)
}

/// Adds these rules for browsers to a router.
pub fn guarded(router: Router, app: &Arc<App>) -> Router {
    let origins = match &app.config().browsers.origins {
        Origins::All => Some(AllowOrigin::any()),
        Origins::These(origins) if origins.is_empty() => None,
        these => {
            let these = these.clone();
            Some(AllowOrigin::predicate(move |origin, _| these.have(origin.as_bytes())))
        }
    };
    let router = match origins {
        None => router,
        Some(origins) => router.layer(
            CorsLayer::new()
                .allow_origin(origins)
                .allow_methods([Method::GET, Method::HEAD, Method::POST])
                .allow_headers(AllowHeaders::mirror_request())
                .expose_headers(Any)
                .max_age(std::time::Duration::from_secs(PREFLIGHT_SECONDS)),
        ),
    };
    router.layer(middleware::from_fn_with_state(app.clone(), guard))
}

async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if !is_refused(app.config(), &request) {
        return next.run(request).await;
    }
    app.metrics().refused(&Failure::Browser);
    unshaped(request.uri().path(), &Failure::Browser)
}
