//! What a server answers that is not ready yet or not for long: readiness with what is loading, and
//! refusals that say when to come back.
//!
//! Must not know: how models are loaded, what tells the server to stop.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use proxima_engine::{Slot, Stage, Step};
use serde_json::{Value, json};

use super::{App, Failure, PathText, with_retry_after};
use crate::dialects;

/// Whether a forward pass works on every model, and what is loading where one is not ready.
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    let result = app.ready().await;
    readiness(result, app.registry().slots())
}

/// The same of one model.
pub async fn readyz_of(State(app): State<Arc<App>>, PathText(model): PathText) -> Response {
    match app.model_ready(&model).await {
        Err(failure @ Failure::UnknownModel(_)) => {
            dialects::failure_at(&format!("/readyz/{model}"), &failure)
        }
        result => {
            let slot = app.registry().slot(Some(&model));
            readiness(result, slot.map(std::slice::from_ref).unwrap_or_default())
        }
    }
}

fn readiness(result: Result<(), Failure>, slots: &[Slot]) -> Response {
    let failure = match result {
        Ok(()) => return Json(json!({ "status": "ready" })).into_response(),
        Err(failure) => failure,
    };
    let status = match failure {
        Failure::NotReady(_) => "starting",
        Failure::Stopping => "stopping",
        _ => "unready",
    };
    let models: Vec<Value> = slots.iter().map(state).collect();
    let body = json!({ "status": status, "reason": failure.to_string(), "models": models });
    let response = (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    with_retry_after(response, &failure)
}

/// What a model is doing, and how far it is.
fn state(slot: &Slot) -> Value {
    let Err(model) = slot.engine() else {
        return json!({ "name": slot.name(), "state": "loaded" });
    };
    let Stage { step, done, total } = model.stage;
    let mut state = json!({ "name": slot.name(), "state": step.name() });
    let unit = match step {
        Step::Fetching => "bytes",
        Step::Loading => "tensors",
        Step::Waiting | Step::Checking => return state,
    };
    state[unit] = json!({ "done": done, "total": total });
    state
}

/// Sends everybody back while no model is ready; health is told.
pub async fn until_ready(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let tells_health = path == "/livez" || path == "/readyz" || path.starts_with("/readyz/");
    let none_ready = app.registry().iter().next().is_none();
    let first = app.registry().not_ready().next();
    if let Some(model) = first.filter(|_| none_ready && !tells_health) {
        let failure = Failure::NotReady(model);
        app.metrics().refused(&failure);
        return dialects::failure_at(path, &failure);
    }
    next.run(request).await
}

/// Closes connections of HTTP/1 after their answer once the server was told to stop. Those of
/// HTTP/2 were sent a GOAWAY then.
pub async fn close_when_leaving(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    let version = request.version();
    let mut response = next.run(request).await;
    if app.is_leaving() && version <= Version::HTTP_11 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests;
