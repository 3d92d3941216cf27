//! Converts messages of text-embeddings-inference to engine requests, and answers back.
//!
//! Must not know: streams, limits, call metadata.

use std::time::Duration;

use proxima_engine::{
    EmbedRequest, PredictRequest, RerankAnswer, RerankRequest, Timings, TokensRequest,
};
use proxima_models::recipes::Token;
use proxima_models::{Input, Prepare};

use crate::dialects::Side;
use crate::dialects::classes::Scored;
use crate::dialects::grpc::proto::tei as pb;
use crate::dialects::inputs::prepare;
use crate::http::{App, Failure};

/// An invalid request, with this message.
fn wrong(message: impl Into<String>) -> Failure {
    Failure::Body { message: message.into(), syntax: false }
}

/// A required text; an absent one arrives empty.
pub fn text(inputs: String) -> Result<String, Failure> {
    if inputs.is_empty() { Err(wrong("`inputs` cannot be empty")) } else { Ok(inputs) }
}

/// Prompt and truncation.
fn how(truncate: bool, direction: i32, prompt_name: Option<String>) -> Result<Prepare, Failure> {
    let side = match pb::TruncationDirection::try_from(direction) {
        Ok(pb::TruncationDirection::Right) => Side::Right,
        Ok(pb::TruncationDirection::Left) => Side::Left,
        Err(_) => return Err(wrong(format!("`truncation_direction` cannot be {direction}"))),
    };
    Ok(prepare(None, prompt_name, truncate, Some(side)))
}

/// The embedding request.
pub fn embed_request(message: pb::EmbedRequest) -> Result<EmbedRequest, Failure> {
    let pb::EmbedRequest { inputs, truncate, truncation_direction, prompt_name, .. } = message;
    Ok(EmbedRequest {
        inputs: vec![Input::from(text(inputs)?)],
        prepare: how(truncate, truncation_direction, prompt_name)?,
        dimensions: message.dimensions.map(|dimensions| dimensions as usize),
        normalize: message.normalize.unwrap_or(true),
    })
}

/// The request for every token's hidden state.
pub fn tokens_request(message: pb::EmbedAllRequest) -> Result<TokensRequest, Failure> {
    let pb::EmbedAllRequest { inputs, truncate, truncation_direction, prompt_name } = message;
    Ok(TokensRequest {
        inputs: vec![Input::from(text(inputs)?)],
        prepare: how(truncate, truncation_direction, prompt_name)?,
    })
}

/// The request for a text's word weights.
pub fn sparse_request(message: pb::EmbedSparseRequest) -> Result<TokensRequest, Failure> {
    let pb::EmbedSparseRequest { inputs, truncate, truncation_direction, prompt_name } = message;
    Ok(TokensRequest {
        inputs: vec![Input::from(text(inputs)?)],
        prepare: how(truncate, truncation_direction, prompt_name)?,
    })
}

/// The request for a text's classes.
pub fn predict_request(message: pb::PredictRequest) -> Result<PredictRequest, Failure> {
    Ok(PredictRequest {
        inputs: vec![Input::from(text(message.inputs)?)],
        prepare: how(message.truncate, message.truncation_direction, None)?,
    })
}

/// The request for a pair's classes.
pub fn pair_request(message: pb::PredictPairRequest) -> Result<PredictRequest, Failure> {
    let input = match <[String; 2]>::try_from(message.inputs) {
        Ok([query, document]) if !(query.is_empty() && document.is_empty()) => {
            Input::Pair { query: query.into(), document: document.into() }
        }
        Ok(_) => return Err(wrong("`inputs` cannot be empty")),
        Err(mut inputs) if inputs.len() == 1 => Input::from(text(inputs.remove(0))?),
        Err(inputs) => {
            return Err(wrong(format!("`inputs` must be one or two texts, not {}", inputs.len())));
        }
    };
    let prepare = how(message.truncate, message.truncation_direction, None)?;
    Ok(PredictRequest { inputs: vec![input], prepare })
}

/// The ranking request.
pub fn rerank_request(message: pb::RerankRequest) -> Result<RerankRequest, Failure> {
    let documents = message.texts.into_iter().map(Into::into).collect();
    Ok(RerankRequest {
        prepare: how(message.truncate, message.truncation_direction, None)?,
        ..RerankRequest::new(message.query, documents)
    })
}

/// Merges a stream of texts to rank into one message.
pub fn gathered(messages: Vec<pb::RerankStreamRequest>) -> Result<pb::RerankRequest, Failure> {
    let first = messages.first().cloned().unwrap_or_default();
    let same = |message: &&pb::RerankStreamRequest| {
        message.query.is_empty() || message.query == first.query
    };
    if !messages.iter().all(|message| same(&message)) {
        return Err(wrong("`query` must be the same in each message of a stream"));
    }
    let pb::RerankStreamRequest { query, truncate, raw_scores, return_text, .. } = first;
    Ok(pb::RerankRequest {
        query,
        texts: messages.into_iter().map(|message| message.text).collect(),
        truncate,
        raw_scores,
        return_text,
        truncation_direction: first.truncation_direction,
    })
}

/// The message of a ranking; `texts` is empty if they were not requested.
pub fn ranks(answer: &RerankAnswer, texts: &[String], raw_scores: bool) -> pb::RerankResponse {
    let ranks = answer.order.iter().map(|&index| pb::Rank {
        index: index as u32,
        text: texts.get(index).cloned(),
        score: if raw_scores { answer.raw[index] } else { answer.score(index) },
    });
    pb::RerankResponse { ranks: ranks.collect(), metadata: Some(metadata(&answer.timings)) }
}

/// A class as a message.
pub fn prediction(scored: Scored, raw_scores: bool) -> pb::Prediction {
    let score = if raw_scores { scored.logit } else { scored.score };
    pb::Prediction { score, label: scored.label }
}

/// A token as a message.
pub fn token(token: Token) -> pb::SimpleToken {
    let Token { id, text, special, start, stop } = token;
    let offset = |offset: Option<usize>| offset.map(|offset| offset as u32);
    pb::SimpleToken { id, text, special, start: offset(start), stop: offset(stop) }
}

/// Timings as a message.
pub fn metadata(timings: &Timings) -> pb::Metadata {
    let nanoseconds = |duration: Duration| duration.as_nanos() as u64;
    pb::Metadata {
        compute_chars: timings.n_chars as u32,
        compute_tokens: timings.n_tokens as u32,
        total_time_ns: nanoseconds(timings.total),
        tokenization_time_ns: nanoseconds(timings.tokenization),
        queue_time_ns: nanoseconds(timings.queue),
        inference_time_ns: nanoseconds(timings.inference),
    }
}

/// The description of the default model.
///
/// # Errors
/// The model is not ready.
pub fn info(app: &App) -> Result<pb::InfoResponse, Failure> {
    let (name, engine) = app.described(None)?;
    let capabilities = &engine.info().capabilities;
    let model_type = match capabilities.labels.as_ref().map(Vec::len) {
        None if capabilities.lists => pb::ModelType::Reranker,
        None => pb::ModelType::Embedding,
        Some(1) => pb::ModelType::Reranker,
        Some(_) => pb::ModelType::Classifier,
    };
    Ok(pb::InfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sha: String::new(),
        docker_label: None,
        model_id: name.to_owned(),
        model_sha: None,
        model_dtype: engine.info().precision.clone(),
        model_type: model_type.into(),
        max_concurrent_requests: app.config().requests_max as u32,
        max_input_length: engine.info().tokens_max as u32,
        max_batch_tokens: engine.config().batch_tokens_max as u32,
        max_batch_requests: None,
        max_client_batch_size: engine.config().inputs_max as u32,
        tokenization_workers: engine.config().tokenization_threads as u32,
    })
}
