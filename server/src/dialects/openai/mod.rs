//! OpenAI's embeddings API.

mod convert;
mod error;
mod types;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::OpenApi;

use super::Dialect;
use super::shared::{Answer, Purpose, Shared, read, respond};
use crate::http::{App, Failure, PathText, json_response, with_timings};
use types::{EmbeddingsAnswer, EmbeddingsBody, ErrorBody, ModelEntry, ModelsAnswer};

/// The entry of the list.
pub fn dialect() -> Dialect {
    Dialect {
        name: "openai",
        owns: |path| path.starts_with("/v1/") || path == "/embeddings",
        routes,
        shared: || {
            vec![Shared {
                purpose: Purpose::Embed,
                path: None,
                body: "EmbeddingsBody",
                claims: |_| true,
                answer: |app, body| -> Answer { Box::pin(embeddings(app, body)) },
            }]
        },
        failure: error::failure,
        error: "OpenAiErrorBody",
        openapi: Document::openapi,
    }
}

fn routes() -> Router<Arc<App>> {
    Router::new().route("/v1/models", get(models)).route("/v1/models/{*id}", get(model))
}

#[derive(OpenApi)]
#[openapi(paths(embeddings, models, model))]
struct Document;

/// Vectors of texts, token ids, or objects with images and videos, as OpenAI's API.
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "openai", request_body = EmbeddingsBody,
    responses(
        (status = 200, body = EmbeddingsAnswer),
        (status = 400, body = ErrorBody, description = "something is wrong with the request"),
        (status = 404, body = ErrorBody, description = "no such model"),
        (status = 429, body = ErrorBody, description = "overloaded; see Retry-After"),
    ),
)]
async fn embeddings(app: Arc<App>, body: Bytes) -> Response {
    match read::<EmbeddingsBody>(&app, body, error::failure).await {
        Ok(body) => respond(&app, vectors(&app, body).await, error::failure),
        Err(response) => response,
    }
}

async fn vectors(app: &App, body: EmbeddingsBody) -> Result<Response, Failure> {
    let (model, encoding) = (body.model.clone(), body.encoding_format.unwrap_or_default());
    let request = convert::request(app, body).await?;
    let (name, answer) = app.embed(model.as_deref(), request).await?;
    let timings = answer.timings;
    let make = move || convert::answer(answer, encoding, name);
    Ok(with_timings(json_response(timings.n_tokens, make).await, &timings))
}

/// The models served.
#[utoipa::path(get, path = "/v1/models", tag = "openai", responses((status = 200, body = ModelsAnswer)))]
async fn models(State(app): State<Arc<App>>) -> Response {
    let engines = app.registry().iter();
    let data = engines.map(|(name, engine)| convert::model_entry(name, engine, app.started()));
    axum::Json(ModelsAnswer { object: "list", data: data.collect() }).into_response()
}

/// One model.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "openai", params(("id" = String, Path, description = "served name")),
    responses((status = 200, body = ModelEntry), (status = 404, body = ErrorBody)),
)]
async fn model(State(app): State<Arc<App>>, PathText(id): PathText) -> Response {
    match app.registry().get(Some(&id)) {
        Ok((name, engine)) => {
            axum::Json(convert::model_entry(name, engine, app.started())).into_response()
        }
        Err(error) => error::failure(&error.into()),
    }
}
