//! Responses of a server that is starting or stopping: readiness with loading progress, and
//! refusals that say when to retry.
//!
//! Must not know: how models are loaded, what tells the server to stop.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use proxima_engine::{LoadStep, Slot, Stage};
use serde::Serialize;
use utoipa::ToSchema;

use super::unshaped::unshaped;
use super::{App, Failure, PathText, with_retry_after};
use crate::noted::note_failure;

/// Whether a server or a model is ready.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready`, `starting`, `stopping` or `unready`
    status: &'static str,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The state of the models, if it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<ModelState>>,
}

/// The state of a model.
#[derive(Debug, Serialize, ToSchema)]
pub struct ModelState {
    /// Its served name.
    name: String,
    /// `loaded`, or the step of its loading.
    state: &'static str,
    /// Bytes of its files so far, while they are fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<StepsDone>,
    /// Tensors so far, while they are loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    tensors: Option<StepsDone>,
}

/// Progress.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepsDone {
    /// How much is done so far.
    done: u64,
    /// The total; 0 if unknown.
    total: u64,
}

/// Whether a forward pass works on every model; if not, their state.
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    responses(
        (status = 200, body = Readiness, description = "all models are ready"),
        (status = 503, body = Readiness, description = "not all models are ready"),
    ),
)]
pub async fn readyz(State(app): State<Arc<App>>) -> Response {
    let result = app.ready().await;
    readiness(result, app.registry().slots())
}

/// Whether a forward pass works on one model; if not, its state.
#[utoipa::path(
    get, path = "/readyz/{model}", tag = "server",
    params(("model" = String, Path, description = "served name of a model")),
    responses(
        (status = 200, body = Readiness, description = "the model is ready"),
        (status = 503, body = Readiness, description = "the model is not ready"),
    ),
)]
pub async fn readyz_of(State(app): State<Arc<App>>, PathText(model): PathText) -> Response {
    match app.model_ready(&model).await {
        Err(failure @ Failure::UnknownModel(_)) => unshaped(&format!("/readyz/{model}"), &failure),
        result => {
            let slot = app.registry().slot(Some(&model));
            readiness(result, slot.map(std::slice::from_ref).unwrap_or_default())
        }
    }
}

fn readiness(result: Result<(), Failure>, slots: &[Slot]) -> Response {
    let failure = match result {
        Ok(()) => {
            let ready = Readiness { status: "ready", reason: None, models: None };
            return Json(ready).into_response();
        }
        Err(failure) => failure,
    };
    note_failure(&failure);
    let status = match failure {
        Failure::NotReady(_) => "starting",
        Failure::Stopping => "stopping",
        _ => "unready",
    };
    let models = Some(slots.iter().map(state).collect());
    let body = Readiness { status, reason: Some(failure.to_string()), models };
    let response = (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    with_retry_after(response, &failure)
}

/// What a model is doing, and its progress.
fn state(slot: &Slot) -> ModelState {
    let name = slot.name().to_owned();
    let Err(model) = slot.engine() else {
        return ModelState { name, state: "loaded", bytes: None, tensors: None };
    };
    let Stage { step, done, total } = model.stage;
    let counts = |counted| (step == counted).then_some(StepsDone { done, total });
    ModelState {
        name,
        state: step.name(),
        bytes: counts(LoadStep::Fetching),
        tensors: counts(LoadStep::Loading),
    }
}

/// Refuses everything but health checks and metrics while no model is ready.
pub async fn until_ready(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let tells_state =
        matches!(path, "/livez" | "/readyz" | "/metrics") || path.starts_with("/readyz/");
    let none_ready = app.registry().iter().next().is_none();
    let first = app.registry().not_ready().next();
    if let Some(model) = first.filter(|_| none_ready && !tells_state) {
        let failure = Failure::NotReady(model);
        app.metrics().refused(&failure);
        return unshaped(path, &failure);
    }
    next.run(request).await
}

/// Closes HTTP/1 connections after their response once the server was told to stop. HTTP/2
/// connections were sent a GOAWAY by then.
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
