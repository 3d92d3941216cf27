//! vLLM's score API, its rerank API for bodies with its own keys, and its embeddings of
//! conversations.

mod embeddings;
mod types;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use proxima_engine::{PredictRequest, RerankAnswer, RerankMethod, RerankRequest, Timings};
use proxima_models::readout::sigmoid;
use proxima_models::{Content, Input, Prepare, Prompt, TruncationSide};
use serde_json::Value;
use utoipa::OpenApi;

use super::dialect::{Dialect, Purpose, ResponseFuture, SharedRoute, handle, respond};
use super::items::{ItemObject, Name, Object, echo, echo_parts, is_item, resolve};
use super::ranking::{Asked, Document, ranked, request, with_method};
use super::status::{answer_id, now, shaped, status};
use crate::http::{App, Chosen, Failure, JsonBody, Routes, Want, with_timings};
use types::{
    ErrorBody, ErrorEntry, RerankBody, RerankResults, ResultEntry, ScoreAnswer, ScoreBody,
    ScoreEntry, Usage,
};

/// Keys that only vLLM's rerank API has.
const RERANK_KEYS: [&str; 6] = [
    "truncate_prompt_tokens",
    "max_tokens_per_query",
    "use_activation",
    "mm_processor_kwargs",
    "chat_template_kwargs",
    "request_id",
];

/// This dialect's entry in the list.
pub fn dialect() -> Dialect {
    Dialect {
        name: "vllm",
        owns: |path| ["/score", "/v1/score"].contains(&path),
        routes: || Routes::new().post(&["/score", "/v1/score"], score),
        shared: || {
            vec![
                SharedRoute {
                    purpose: Purpose::Rerank,
                    path: None,
                    body: "VllmRerankBody",
                    answers: &["VllmRerankResults"],
                    claims: |keys| keys.any(&RERANK_KEYS),
                    answer: |app, body| -> ResponseFuture {
                        Box::pin(handle(app, body, failure, rerank))
                    },
                },
                SharedRoute {
                    purpose: Purpose::Embed,
                    path: None,
                    body: "VllmChatBody",
                    answers: &["VllmChatAnswer"],
                    // `messages` counts when it is null only if `input` is absent or null.
                    claims: |keys| {
                        keys.set(&["messages"])
                            || (keys.any(&["messages"]) && !keys.set(&["input"]))
                    },
                    answer: |app, body| -> ResponseFuture {
                        Box::pin(handle(app, body, failure, embeddings::chat))
                    },
                },
            ]
        },
        failure,
        error: "VllmErrorBody",
        openapi: Api::openapi,
    }
}

#[derive(OpenApi)]
#[openapi(
    paths(score),
    components(schemas(
        RerankBody,
        RerankResults,
        embeddings::ChatBody,
        embeddings::ChatAnswer,
        ErrorBody
    ))
)]
struct Api;

/// Scores of pairs of texts: one with each of several, or pair by pair.
#[utoipa::path(
    post, path = "/score", tag = "vllm", request_body = ScoreBody,
    responses((status = 200, body = ScoreAnswer, description = "one score per pair")),
)]
async fn score(State(app): State<Arc<App>>, JsonBody(body): JsonBody<ScoreBody>) -> Response {
    respond(&app, scores(&app, body).await, failure)
}

async fn scores(app: &App, mut body: ScoreBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Score)?;
    body.mm_processor_kwargs.check()?;
    let (queries, documents) = body.sides().ok_or_else(|| {
        Failure::body("send queries and documents, data_1 and data_2, or text_1 and text_2")
    })?;
    if queries.len() != 1 && queries.len() != documents.len() {
        return Err(Failure::body("there must be one query, or as many queries as documents"));
    }
    let (queries, documents) = sides(&chosen, queries, documents).await?;
    let instruction = body.chat_template_kwargs.or(body.instruction)?;
    let cut = Prepare {
        prompt: instruction.map_or(Prompt::Default, Prompt::Instruction),
        truncate: body.truncate_prompt_tokens.is_some() || chosen.auto_truncate(),
        tokens_max: body.truncate_prompt_tokens.and_then(|limit| limit.0),
        side: body.truncation_side.map_or(TruncationSide::Own, TruncationSide::from),
        document_tokens_max: body.max_tokens_per_doc.filter(|tokens| *tokens > 0),
        query_tokens_max: body.max_tokens_per_query.filter(|tokens| *tokens > 0),
    };
    let raw = body.use_activation == Some(false);
    let (scores, timings) = if chosen.rerank_method() == Some(RerankMethod::Pointwise) {
        let query = |index: usize| queries[if queries.len() == 1 { 0 } else { index }].clone();
        let pairs = documents.into_iter().enumerate();
        let inputs = pairs.map(|(index, document)| Input::Pair { query: query(index), document });
        let request = PredictRequest { inputs: inputs.collect(), prepare: cut };
        let answer = chosen.predict(request).await?;
        let logits = answer.logits.into_iter().map(|logits| logits[0]);
        let scores = logits.map(|logit| if raw { logit } else { sigmoid(logit) });
        (scores.collect(), answer.timings)
    } else {
        similarities(&chosen, &queries, documents, cut).await?
    };
    let data = Vec::into_iter(scores).enumerate().map(|(index, score)| ScoreEntry {
        index,
        object: "score",
        score,
    });
    let tokens = timings.n_tokens;
    let answer = ScoreAnswer {
        id: answer_id("score"),
        object: "list",
        created: now(),
        model: chosen.name().to_owned(),
        data: data.collect(),
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    };
    Ok(with_timings(Json(answer).into_response(), &timings))
}

/// Similarities, for embedding models: of one query with each document, or pair by pair.
async fn similarities(
    chosen: &Chosen<'_>,
    queries: &[Content],
    documents: Vec<Content>,
    how: Prepare,
) -> Result<(Vec<f32>, Timings), Failure> {
    if let [query] = queries {
        let request = RerankRequest {
            prepare: how,
            method: Some(RerankMethod::Similarity),
            ..RerankRequest::new(query.clone(), documents)
        };
        let answer = chosen.rerank(request).await?;
        return Ok((answer.raw, answer.timings));
    }
    let answer = chosen.similarities(queries, &documents, &how).await?;
    Ok((answer.values, answer.timings))
}

/// Queries and documents with their files fetched.
async fn sides(
    chosen: &Chosen<'_>,
    queries: Vec<Document>,
    documents: Vec<Document>,
) -> Result<(Vec<Content>, Vec<Content>), Failure> {
    let count = queries.len();
    let queries = (0..).map(Name::QueryOf).zip(queries);
    let queries = queries.map(|(name, one)| Ok((name, one.query(name)?.into())));
    let documents = (0..).map(Name::Document).zip(documents);
    let documents = documents.map(|(name, one)| Ok((name, one.content(name, &[])?)));
    let pending = queries.chain(documents).collect::<Result<Vec<_>, Failure>>()?;
    let mut queries = resolve(chosen.media(), pending).await?;
    let documents = queries.split_off(count);
    Ok((queries, documents))
}

async fn rerank(app: &App, mut body: RerankBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Rerank)?;
    body.mm_processor_kwargs.check()?;
    let mut additions = body.additions();
    additions.instruction = body.chat_template_kwargs.or(additions.instruction)?;
    let asked = Asked {
        query: body.query,
        documents: body.documents.into(),
        truncate: body.truncate_prompt_tokens.is_some() || chosen.auto_truncate(),
        document_tokens_max: body.max_tokens_per_doc.filter(|tokens| *tokens > 0),
        ..Asked::default()
    };
    let documents: Vec<Object> = asked.documents.iter().map(returned).collect();
    let mut request = request(&chosen, asked, additions).await?;
    request.prepare.tokens_max = body.truncate_prompt_tokens.and_then(|limit| limit.0);
    request.prepare.query_tokens_max = body.max_tokens_per_query.filter(|tokens| *tokens > 0);
    let raw = body.use_activation == Some(false);
    let answer = chosen.rerank(request).await?;
    let model = chosen.name().to_owned();
    let results = ranked(&answer, body.top_n, raw).into_iter().map(|rank| ResultEntry {
        index: rank.index,
        document: documents[rank.index].clone(),
        relevance_score: rank.score,
    });
    let results = whole(&answer, model, results.collect());
    Ok(with_method(Json(results).into_response(), &answer))
}

/// A document as it is returned: one with images or videos has its parts under `multi_modal`.
fn returned(document: &Document) -> Object {
    match document {
        Document::Object(ItemObject(object)) if is_item(object) => {
            let parts =
                object.get("content").map_or_else(|| vec![Value::Object(echo(object))], echo_parts);
            let text = ("text".to_owned(), Value::Null);
            Object::from_iter([text, ("multi_modal".to_owned(), Value::Array(parts))])
        }
        Document::Parts(_) => {
            let parts = document.object().remove("content").unwrap_or_default();
            Object::from_iter([("text".to_owned(), Value::Null), ("multi_modal".to_owned(), parts)])
        }
        document => document.object(),
    }
}

fn whole(answer: &RerankAnswer, model: String, results: Vec<ResultEntry>) -> RerankResults {
    let tokens = answer.timings.n_tokens;
    RerankResults {
        id: answer_id("rerank"),
        model,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
        results,
        method: answer.method.name(),
    }
}

fn failure(failure: &Failure) -> Response {
    let code = status(failure).as_u16();
    let kind = if code < 500 { "BadRequestError" } else { "InternalServerError" };
    let error = ErrorEntry { message: failure.message(), r#type: kind, param: None, code };
    shaped(failure, ErrorBody { error })
}
