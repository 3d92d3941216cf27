//! Jina's rerank and embeddings APIs, and Cohere's v1 rerank API, whose bodies differ only in
//! details that do not matter.

mod types;

use axum::Json;
use axum::response::{IntoResponse, Response};
use proxima_engine::{EmbedRequest, RerankAnswer, TokensRequest};
use proxima_models::{Prepare, TruncationSide};
use utoipa::OpenApi;

use super::dialect::{Dialect, Purpose, ResponseFuture, SharedRoute, handle};
use super::inputs::sole_prompt;
use super::ranking::{Asked, echoes, ranked, request, with_method};
use super::status::{answer_id, shaped};
use super::token_ids::IdsOf;
use crate::http::{App, Chosen, Failure, Routes, Want, json_response, with_timings};
use types::{
    ApiVersion, BilledUnits, EmbeddingType, EmbeddingsAnswer, EmbeddingsBody, ErrorBody, JinaEntry,
    Meta, RerankBody, RerankResults, ResultEntry, TokensEntry, Usage, written,
};

/// Keys that only Jina's embeddings API has.
const EMBEDDING_KEYS: [&str; 6] = [
    "task",
    "embedding_type",
    "encoding_type",
    "normalized",
    "late_chunking",
    "return_multivector",
];

/// This dialect's entry in the list.
pub fn dialect() -> Dialect {
    Dialect {
        name: "jina",
        owns: |path| ["/v1/rerank", "/v1/reranking", "/reranking"].contains(&path),
        routes: Routes::new,
        shared: || {
            vec![
                SharedRoute {
                    purpose: Purpose::Rerank,
                    path: None,
                    body: "JinaRerankBody",
                    answers: &["JinaRerankResults"],
                    // Only text-embeddings-inference calls documents `texts`.
                    claims: |keys| !keys.any(&["texts"]) || keys.any(&["documents"]),
                    answer: |app, body| -> ResponseFuture {
                        Box::pin(handle(app, body, failure, rerank))
                    },
                },
                SharedRoute {
                    purpose: Purpose::Embed,
                    path: None,
                    body: "JinaEmbeddingsBody",
                    answers: &[
                        "JinaEmbeddingsAnswer_JinaEntry",
                        "JinaEmbeddingsAnswer_JinaTokensEntry",
                    ],
                    claims: |keys| keys.any(&EMBEDDING_KEYS),
                    answer: |app, body| -> ResponseFuture {
                        Box::pin(handle(app, body, failure, embeddings))
                    },
                },
            ]
        },
        failure,
        error: "JinaErrorBody",
        openapi: Api::openapi,
    }
}

#[derive(OpenApi)]
#[openapi(components(schemas(
    RerankBody,
    RerankResults,
    EmbeddingsBody,
    EmbeddingsAnswer<JinaEntry>,
    EmbeddingsAnswer<TokensEntry>,
    ErrorBody
)))]
struct Api;

async fn rerank(app: &App, mut body: RerankBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Rerank)?;
    // By default, Jina returns documents and Cohere does not.
    let of_cohere = body.rank_fields.is_some() || body.max_chunks_per_doc.is_some();
    let with_documents = body.return_documents.unwrap_or(!of_cohere);
    let additions = body.additions();
    let asked = Asked {
        query: body.query,
        documents: body.documents.into(),
        rank_fields: body.rank_fields.unwrap_or_default(),
        truncate: body.truncate.unwrap_or(chosen.auto_truncate()),
        document_tokens_max: body.max_tokens_per_doc,
    };
    let documents = if with_documents { echoes(&asked.documents) } else { Vec::new() };
    let raw = body.raw_scores.unwrap_or(false);
    let answer = chosen.rerank(request(&chosen, asked, additions).await?).await?;
    let model = chosen.name().to_owned();
    let results = ranked(&answer, body.top_n, raw).into_iter().map(|rank| ResultEntry {
        index: rank.index,
        relevance_score: rank.score,
        document: documents.get(rank.index).cloned(),
    });
    let results = results.collect();
    Ok(with_method(Json(whole(&answer, model, results)).into_response(), &answer))
}

fn whole(answer: &RerankAnswer, model: String, results: Vec<ResultEntry>) -> RerankResults {
    let tokens = answer.timings.n_tokens;
    RerankResults {
        id: answer_id("rerank"),
        model,
        object: "list",
        method: answer.method.name(),
        usage: Usage { total_tokens: tokens, prompt_tokens: tokens },
        meta: Meta {
            api_version: ApiVersion { version: "1" },
            billed_units: BilledUnits { search_units: 1 },
        },
        results,
    }
}

async fn embeddings(app: &App, body: EmbeddingsBody) -> Result<Response, Failure> {
    let multi = body.return_multivector == Some(true);
    let want = if multi { Want::MultiVectors } else { Want::Embed };
    let chosen = app.choose(body.model.as_deref(), want)?;
    let refuse = |what: &str| Err(Failure::body(what));
    if body.late_chunking == Some(true) {
        return refuse("late_chunking is not supported; send chunks as separate inputs");
    }
    let encoding = match body.embedding_type {
        None => EmbeddingType::default(),
        Some(written::OneOrMore::One(encoding)) => encoding,
        Some(written::OneOrMore::More(encodings)) => match encodings[..] {
            [encoding] => encoding,
            _ => return refuse("embedding_type must name one type"),
        },
    };
    let prepare = Prepare {
        prompt: sole_prompt(body.instruction, body.prompt_name, body.task.as_deref())?,
        truncate: body.truncate.unwrap_or(chosen.auto_truncate()),
        side: body.truncation_direction.map(TruncationSide::from).unwrap_or_default(),
        ..Prepare::default()
    };
    let inputs = body.input.resolve(&chosen, IdsOf::Client).await?;
    if multi {
        return token_vectors(&chosen, TokensRequest { inputs, prepare }).await;
    }
    let request = EmbedRequest {
        inputs,
        prepare,
        dimensions: body.dimensions,
        normalize: body.normalized.unwrap_or(true),
    };
    let answer = chosen.embed(request).await?;
    let model = chosen.name().to_owned();
    let timings = answer.timings;
    let make = move || {
        let data = answer.vectors.into_iter().enumerate().map(|(index, vector)| JinaEntry {
            object: "embedding",
            index,
            embedding: encoding.encode(vector),
        });
        EmbeddingsAnswer {
            model,
            object: "list",
            usage: Usage { total_tokens: timings.n_tokens, prompt_tokens: timings.n_tokens },
            data: data.collect(),
        }
    };
    Ok(with_timings(json_response(timings.n_tokens, make).await, &timings))
}

async fn token_vectors(chosen: &Chosen<'_>, request: TokensRequest) -> Result<Response, Failure> {
    let answer = chosen.multi_vectors(request).await?;
    let model = chosen.name().to_owned();
    let timings = answer.timings;
    let make = move || {
        let data = answer.rows.into_iter().enumerate().map(|(index, embeddings)| TokensEntry {
            object: "embeddings",
            index,
            embeddings,
        });
        EmbeddingsAnswer {
            model,
            object: "list",
            usage: Usage { total_tokens: timings.n_tokens, prompt_tokens: timings.n_tokens },
            data: data.collect(),
        }
    };
    Ok(with_timings(json_response(usize::MAX, make).await, &timings))
}

/// Jina's clients read `detail`, Cohere's `message`.
fn failure(failure: &Failure) -> Response {
    let message = failure.message();
    shaped(failure, ErrorBody { detail: message.clone(), message })
}
