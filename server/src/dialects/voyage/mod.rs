//! Voyage's rerank, embeddings and multimodal embeddings APIs.

mod multimodal;
mod types;

use axum::Json;
use axum::response::{IntoResponse, Response};
use proxima_engine::EmbedRequest;
use proxima_models::{Prepare, TruncationSide};
use utoipa::OpenApi;

use super::dialect::{Dialect, Purpose, ResponseFuture, SharedRoute, handle};
use super::inputs::sole_prompt;
use super::ranking::{Asked, Document, ranked, request, with_method};
use super::status::shaped;
use super::token_ids::IdsOf;
use crate::http::{App, Failure, Routes, Want, json_response, with_timings};
use types::{
    EmbeddingsAnswer, EmbeddingsBody, ErrorBody, RerankBody, RerankResults, ResultEntry, Usage,
    entries,
};

/// Keys that only Voyage's embeddings API has.
const EMBEDDING_KEYS: [&str; 4] = ["input_type", "output_dimension", "output_dtype", "truncation"];

/// This dialect's entry in the list.
pub fn dialect() -> Dialect {
    Dialect {
        name: "voyage",
        owns: |path| path == multimodal::PATH,
        routes: || Routes::new().post(&[multimodal::PATH], multimodal::embeddings),
        shared: || {
            vec![
                SharedRoute {
                    purpose: Purpose::Rerank,
                    path: None,
                    body: "VoyageRerankBody",
                    answers: &["VoyageRerankResults"],
                    claims: |keys| keys.any(&["top_k"]),
                    answer: |app, body| -> ResponseFuture {
                        Box::pin(handle(app, body, failure, rerank))
                    },
                },
                SharedRoute {
                    purpose: Purpose::Embed,
                    path: None,
                    body: "VoyageEmbeddingsBody",
                    answers: &["VoyageEmbeddingsAnswer"],
                    claims: |keys| keys.any(&EMBEDDING_KEYS),
                    answer: |app, body| -> ResponseFuture {
                        Box::pin(handle(app, body, failure, embeddings))
                    },
                },
            ]
        },
        failure,
        error: "VoyageErrorBody",
        openapi: Api::openapi,
    }
}

#[derive(OpenApi)]
#[openapi(
    paths(multimodal::embeddings),
    components(schemas(RerankBody, RerankResults, EmbeddingsBody, EmbeddingsAnswer, ErrorBody))
)]
struct Api;

async fn rerank(app: &App, mut body: RerankBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Rerank)?;
    let limit = body.limit()?;
    let additions = body.additions();
    let asked = Asked {
        query: body.query,
        documents: body.documents.into(),
        truncate: body.truncation.unwrap_or(true),
        ..Asked::default()
    };
    let returned = body.return_documents.unwrap_or(false);
    let documents = asked.documents.iter().filter(|_| returned).map(Document::echo);
    let documents: Vec<Document> = documents.collect();
    let raw = body.raw_scores.unwrap_or(false);
    let answer = chosen.rerank(request(&chosen, asked, additions).await?).await?;
    let model = chosen.name().to_owned();
    let data = ranked(&answer, limit, raw).into_iter().map(|rank| ResultEntry {
        index: rank.index,
        relevance_score: rank.score,
        document: documents.get(rank.index).cloned(),
    });
    let results = RerankResults {
        object: "list",
        data: data.collect(),
        model,
        usage: Usage { total_tokens: answer.timings.n_tokens },
        method: answer.method.name(),
    };
    Ok(with_method(Json(results).into_response(), &answer))
}

async fn embeddings(app: &App, body: EmbeddingsBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Embed)?;
    let encoding = body.output_dtype.unwrap_or_default();
    let packed = body.encoding_format.is_some();
    let request = EmbedRequest {
        inputs: body.input.resolve(&chosen, IdsOf::Client).await?,
        prepare: Prepare {
            prompt: sole_prompt(body.instruction, body.prompt_name, body.input_type.as_deref())?,
            truncate: body.truncation.unwrap_or(true),
            side: body.truncation_direction.map(TruncationSide::from).unwrap_or_default(),
            ..Prepare::default()
        },
        dimensions: body.output_dimension,
        normalize: body.normalize.unwrap_or(true),
    };
    let answer = chosen.embed(request).await?;
    let model = chosen.name().to_owned();
    let timings = answer.timings;
    let make = move || EmbeddingsAnswer {
        object: "list",
        data: entries(answer.vectors, encoding, packed),
        model,
        usage: Usage { total_tokens: timings.n_tokens },
    };
    Ok(with_timings(json_response(timings.n_tokens, make).await, &timings))
}

fn failure(failure: &Failure) -> Response {
    shaped(failure, ErrorBody { detail: failure.message() })
}
