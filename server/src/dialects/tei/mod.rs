//! The HTTP API of text-embeddings-inference.

mod convert;
mod error;
mod types;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use utoipa::OpenApi;

use super::Dialect;
use crate::http::{App, JsonBody, json_response, with_timings};
use types::{
    DecodeBody, EmbedAllBody, EmbedBody, ErrorBody, InfoAnswer, SimilarityBody, TokenEntry,
    TokenizeBody, VertexAnswer, VertexBody,
};

/// The entry of the list.
pub fn dialect() -> Dialect {
    Dialect {
        name: "tei",
        owns: |_| true,
        routes,
        failure: error::failure,
        openapi: Document::openapi,
    }
}

fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/embed", post(embed))
        .route("/invocations", post(embed))
        .route("/", get(health).post(embed))
        .route("/embed_all", post(embed_all))
        .route("/similarity", post(similarity))
        .route("/tokenize", post(tokenize))
        .route("/decode", post(decode))
        .route("/vertex", post(vertex))
        .route("/info", get(info))
        .route("/health", get(health))
        .route("/ping", get(health))
}

#[derive(OpenApi)]
#[openapi(paths(embed, embed_all, similarity, tokenize, decode, vertex, info, health))]
struct Document;

/// Vectors of texts or token ids.
#[utoipa::path(
    post, path = "/embed", tag = "tei", request_body = EmbedBody,
    responses(
        (status = 200, body = Vec<Vec<f32>>, description = "one vector an input"),
        (status = 400, body = ErrorBody, description = "no inputs, or not JSON"),
        (status = 413, body = ErrorBody, description = "the body is too large"),
        (status = 422, body = ErrorBody, description = "something is wrong with the request"),
        (status = 424, body = ErrorBody, description = "the model failed"),
        (status = 429, body = ErrorBody, description = "overloaded; see Retry-After"),
    ),
)]
async fn embed(State(app): State<Arc<App>>, JsonBody(body): JsonBody<EmbedBody>) -> Response {
    let (model, encoding) = (body.model.clone(), body.encoding_format.unwrap_or_default());
    let request = convert::embed_request(body, app.auto_truncate());
    match app.embed(model.as_deref(), request).await {
        Ok((_, answer)) => {
            let (timings, vectors) = (answer.timings, answer.vectors);
            let make = move || -> Vec<_> {
                vectors.into_iter().map(|vector| encoding.encode(vector)).collect()
            };
            with_timings(json_response(timings.n_tokens, make).await, &timings)
        }
        Err(failure) => error::failure(&failure),
    }
}

/// The hidden state of every token, not normalised.
#[utoipa::path(
    post, path = "/embed_all", tag = "tei", request_body = EmbedAllBody,
    responses((status = 200, body = Vec<Vec<Vec<f32>>>), (status = 422, body = ErrorBody)),
)]
async fn embed_all(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<EmbedAllBody>,
) -> Response {
    let model = body.model.clone();
    let request = convert::tokens_request(body, app.auto_truncate());
    match app.tokens(model.as_deref(), request).await {
        Ok((_, answer)) => {
            let timings = answer.timings;
            with_timings(json_response(usize::MAX, move || answer.rows).await, &timings)
        }
        Err(failure) => error::failure(&failure),
    }
}

/// Cosines of one sentence with others.
#[utoipa::path(
    post, path = "/similarity", tag = "tei", request_body = SimilarityBody,
    responses((status = 200, body = Vec<f32>), (status = 422, body = ErrorBody)),
)]
async fn similarity(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<SimilarityBody>,
) -> Response {
    let model = body.model.clone();
    let request = convert::similarity_request(body, app.auto_truncate());
    match app.embed(model.as_deref(), request).await {
        Ok((_, answer)) => {
            let body = Json(convert::similarities(&answer.vectors)).into_response();
            with_timings(body, &answer.timings)
        }
        Err(failure) => error::failure(&failure),
    }
}

/// The tokens of texts.
#[utoipa::path(
    post, path = "/tokenize", tag = "tei", request_body = TokenizeBody,
    responses((status = 200, body = Vec<Vec<TokenEntry>>), (status = 422, body = ErrorBody)),
)]
async fn tokenize(State(app): State<Arc<App>>, JsonBody(body): JsonBody<TokenizeBody>) -> Response {
    let special = body.add_special_tokens.unwrap_or(true);
    let (texts, prompt) = (convert::texts(body.inputs), convert::prompt(body.prompt_name));
    match app.tokenize(body.model.as_deref(), texts, special, prompt).await {
        Ok(all) => {
            let entries = |tokens: Vec<_>| tokens.into_iter().map(convert::token).collect();
            let all: Vec<Vec<TokenEntry>> = all.into_iter().map(entries).collect();
            Json(all).into_response()
        }
        Err(failure) => error::failure(&failure),
    }
}

/// The texts of token ids.
#[utoipa::path(
    post, path = "/decode", tag = "tei", request_body = DecodeBody,
    responses((status = 200, body = Vec<String>), (status = 422, body = ErrorBody)),
)]
async fn decode(State(app): State<Arc<App>>, JsonBody(body): JsonBody<DecodeBody>) -> Response {
    let skip = body.skip_special_tokens.unwrap_or(true);
    match app.decode(body.model.as_deref(), convert::ids(body.ids), skip).await {
        Ok(texts) => Json(texts).into_response(),
        Err(failure) => error::failure(&failure),
    }
}

/// Several `/embed` bodies at once, as Vertex AI sends them.
#[utoipa::path(
    post, path = "/vertex", tag = "tei", request_body = VertexBody,
    responses((status = 200, body = VertexAnswer), (status = 422, body = ErrorBody)),
)]
async fn vertex(State(app): State<Arc<App>>, JsonBody(body): JsonBody<VertexBody>) -> Response {
    let mut predictions = Vec::with_capacity(body.instances.len());
    for instance in body.instances {
        let encoding = instance.encoding_format.unwrap_or_default();
        let model = instance.model.clone();
        let request = convert::embed_request(instance, app.auto_truncate());
        match app.embed(model.as_deref(), request).await {
            Ok((_, answer)) => {
                let vectors = answer.vectors.into_iter().map(|vector| encoding.encode(vector));
                predictions.push(vectors.collect::<Vec<_>>());
            }
            Err(failure) => return error::failure(&failure),
        }
    }
    Json(VertexAnswer { predictions }).into_response()
}

/// What is served.
#[utoipa::path(get, path = "/info", tag = "tei", responses((status = 200, body = InfoAnswer)))]
async fn info(State(app): State<Arc<App>>) -> Response {
    Json(convert::info(&app)).into_response()
}

/// Whether a forward pass works on every model.
#[utoipa::path(
    get, path = "/health", tag = "tei",
    responses((status = 200), (status = 503, body = ErrorBody)),
)]
async fn health(State(app): State<Arc<App>>) -> Response {
    match app.ready().await {
        Ok(()) => ().into_response(),
        Err(failure) => error::failure(&failure),
    }
}
