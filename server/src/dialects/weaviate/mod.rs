//! The API that Weaviate's modules `text2vec-transformers` and `reranker-transformers` call.

mod types;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use proxima_engine::EmbedRequest;
use proxima_models::{Input, Prepare};
use utoipa::OpenApi;

use super::dialect::{Dialect, Purpose, ResponseFuture, SharedRoute, handle, respond};
use super::inputs::purpose_prompt;
use super::ranking::{Additions, Asked, Document, request, with_method};
use super::status::shaped;
use crate::http::{App, Failure, JsonBody, Routes, Want, with_timings};
use types::{
    ErrorBody, MetaAnswer, RerankBody, RerankResults, ScoredDocument, TextVectors, VectorAnswer,
    VectorBody, VectorsAnswer,
};

/// This dialect's entry in the list.
pub fn dialect() -> Dialect {
    Dialect {
        name: "weaviate",
        owns: |path| path.starts_with("/vectors") || path == "/meta",
        routes: || {
            Routes::new()
                .post(&["/vectors"], vectors)
                .get(&["/meta"], meta)
                .get(&["/.well-known/live"], live)
                .get(&["/.well-known/ready"], ready)
        },
        shared: || {
            vec![SharedRoute {
                purpose: Purpose::Rerank,
                path: None,
                body: "WeaviateRerankBody",
                answers: &["WeaviateRerankResults"],
                claims: |keys| keys.any(&["property"]) && keys.any(&["documents"]),
                answer: |app, body| -> ResponseFuture {
                    Box::pin(handle(app, body, failure, rerank))
                },
            }]
        },
        failure,
        error: "WeaviateErrorBody",
        openapi: Api::openapi,
    }
}

#[derive(OpenApi)]
#[openapi(
    paths(vectors, meta, live, ready),
    components(schemas(RerankBody, RerankResults, ErrorBody))
)]
struct Api;

/// Vectors of one or several texts, for `text2vec-transformers`.
#[utoipa::path(
    post, path = "/vectors", tag = "weaviate", request_body = VectorBody,
    responses((status = 200, body = TextVectors, description = "one vector per text")),
)]
async fn vectors(State(app): State<Arc<App>>, JsonBody(body): JsonBody<VectorBody>) -> Response {
    respond(&app, embed(&app, body).await, failure)
}

async fn embed(app: &App, body: VectorBody) -> Result<Response, Failure> {
    let chosen = app.choose(None, Want::Embed)?;
    let config = body.config.unwrap_or_default();
    let (texts, one) = match (body.text, body.texts) {
        (Some(text), None) => (vec![text], true),
        (None, Some(texts)) => (texts, false),
        _ => {
            let message = "send either \"text\" or \"texts\"".into();
            return Err(Failure::Body { message, syntax: false });
        }
    };
    let request = EmbedRequest {
        inputs: texts.iter().cloned().map(Input::from).collect(),
        prepare: Prepare {
            prompt: purpose_prompt(config.task_type.as_deref()),
            ..Prepare::default()
        },
        dimensions: config.dimensions,
        normalize: true,
    };
    let answer = chosen.embed(request).await?;
    let timings = answer.timings;
    let dims = answer.vectors.first().map_or(0, Vec::len);
    let mut vectors = answer.vectors;
    let response = if one {
        let text = texts.into_iter().next().unwrap_or_default();
        TextVectors::One(VectorAnswer { text, dims, vector: vectors.swap_remove(0) })
    } else {
        TextVectors::Several(VectorsAnswer { dims, vectors })
    };
    Ok(with_timings(Json(response).into_response(), &timings))
}

async fn rerank(app: &App, body: RerankBody) -> Result<Response, Failure> {
    let chosen = app.choose(None, Want::Rerank)?;
    let asked = Asked {
        query: Document::Text(body.query.clone()),
        documents: body.documents.iter().cloned().map(Document::Text).collect(),
        truncate: true,
        ..Asked::default()
    };
    let answer = chosen.rerank(request(&chosen, asked, Additions::default()).await?).await?;
    // In the order of the documents: the module itself sorts.
    let scores = body.documents.into_iter().enumerate();
    let scores = scores
        .map(|(index, document)| ScoredDocument { document, score: answer.score(index) })
        .collect();
    let results = RerankResults { query: body.query, scores };
    Ok(with_method(Json(results).into_response(), &answer))
}

/// Properties of the default model, which the module requests at startup.
#[utoipa::path(
    get, path = "/meta", tag = "weaviate",
    responses((status = 200, body = MetaAnswer, description = "of the default model")),
)]
async fn meta(State(app): State<Arc<App>>) -> Response {
    match app.described(None) {
        Ok((name, engine)) => {
            let model_type = engine.info().family.clone();
            Json(MetaAnswer { model: name.to_owned(), model_type }).into_response()
        }
        Err(refused) => failure(&refused),
    }
}

/// Whether the process is alive.
#[utoipa::path(
    get, path = "/.well-known/live", tag = "weaviate",
    responses((status = 204, description = "the process is alive")),
)]
async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Whether a forward pass works on every model.
#[utoipa::path(
    get, path = "/.well-known/ready", tag = "weaviate",
    responses((status = 204, description = "every model is healthy")),
)]
async fn ready(State(app): State<Arc<App>>) -> Response {
    let ready = app.ready().await.map(|()| StatusCode::NO_CONTENT.into_response());
    respond(&app, ready, failure)
}

fn failure(failure: &Failure) -> Response {
    shaped(failure, ErrorBody { error: failure.message() })
}
