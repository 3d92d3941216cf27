//! OpenAI's embeddings API.

mod convert;
mod error;
mod types;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

use super::dialect::{Dialect, Purpose, ResponseFuture, SharedRoute, handle};
use crate::http::{App, Failure, PathText, Routes, Want, json_response, with_timings};
use types::{EmbeddingsAnswer, EmbeddingsBody, ErrorBody, ModelEntry, ModelsAnswer};

/// This dialect's entry in the list.
pub fn dialect() -> Dialect {
    Dialect {
        name: "openai",
        owns: |path| path.starts_with("/v1/") || path == "/embeddings",
        routes,
        shared: || {
            vec![SharedRoute {
                purpose: Purpose::Embed,
                path: None,
                body: "EmbeddingsBody",
                answers: &["EmbeddingsAnswer"],
                claims: |_| true,
                answer: |app, body| -> ResponseFuture {
                    Box::pin(handle(app, body, error::failure, embeddings))
                },
            }]
        },
        failure: error::failure,
        error: "OpenAiErrorBody",
        openapi: Api::openapi,
    }
}

fn routes() -> Routes {
    Routes::new().get(&["/v1/models"], models).get(&["/v1/models/{*id}"], model)
}

#[derive(OpenApi)]
#[openapi(paths(models, model), components(schemas(EmbeddingsBody, EmbeddingsAnswer, ErrorBody)))]
struct Api;

async fn embeddings(app: &App, body: EmbeddingsBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Embed)?;
    let encoding = body.encoding_format.unwrap_or_default();
    let answer = chosen.embed(convert::request(&chosen, body).await?).await?;
    let name = chosen.name().to_owned();
    let timings = answer.timings;
    let make = move || convert::answer(answer, encoding, name);
    Ok(with_timings(json_response(timings.n_tokens, make).await, &timings))
}

/// The served models.
#[utoipa::path(
    get, path = "/v1/models", tag = "openai",
    responses((status = 200, body = ModelsAnswer, description = "the default model first")),
)]
async fn models(State(app): State<Arc<App>>) -> Response {
    let engines = app.registry().iter();
    let data = engines.map(|(name, engine)| convert::model_entry(name, engine, app.started()));
    axum::Json(ModelsAnswer { object: "list", data: data.collect() }).into_response()
}

/// One model.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "openai",
    params(("id" = String, Path, description = "served name of a model")),
    responses(
        (status = 200, body = ModelEntry, description = "the model"),
        (status = 404, body = ErrorBody, description = "no such model"),
    ),
)]
async fn model(State(app): State<Arc<App>>, PathText(id): PathText) -> Response {
    match app.described(Some(&id)) {
        Ok((name, engine)) => {
            axum::Json(convert::model_entry(name, engine, app.started())).into_response()
        }
        Err(failure) => error::failure(&failure),
    }
}
