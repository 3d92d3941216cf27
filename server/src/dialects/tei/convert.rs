//! The bodies of text-embeddings-inference to requests of the engine, and answers back.

use std::collections::BTreeMap;

use proxima_engine::{EmbedRequest, TokensRequest};
use proxima_models::recipes::Token;
use proxima_models::{Input, Prompt};

use super::types::{EmbedAllBody, EmbedBody, Ids, InfoAnswer, SimilarityBody, Texts, TokenEntry};
use crate::dialects::inputs::prepare;
use crate::http::App;

/// The request of an `/embed` body; `auto_truncate` is the server's setting.
pub fn embed_request(body: EmbedBody, auto_truncate: bool) -> EmbedRequest {
    let truncate = body.truncate.unwrap_or(auto_truncate);
    EmbedRequest {
        inputs: body.inputs.into(),
        prepare: prepare(body.instruction, body.prompt_name, truncate, body.truncation_direction),
        dimensions: body.dimensions,
        normalize: body.normalize.unwrap_or(true),
    }
}

/// The request of an `/embed_all` body.
pub fn tokens_request(body: EmbedAllBody, auto_truncate: bool) -> TokensRequest {
    let truncate = body.truncate.unwrap_or(auto_truncate);
    TokensRequest {
        inputs: body.inputs.into(),
        prepare: prepare(body.instruction, body.prompt_name, truncate, body.truncation_direction),
    }
}

/// The request of a `/similarity` body: the source first, then the sentences. Without sentences it
/// is empty, which the engine refuses.
pub fn similarity_request(body: SimilarityBody, auto_truncate: bool) -> EmbedRequest {
    let parameters = body.parameters;
    let truncate = parameters.truncate.unwrap_or(auto_truncate);
    let side = parameters.truncation_direction;
    let sentences = body.inputs.sentences;
    let source = (!sentences.is_empty()).then_some(body.inputs.source_sentence);
    EmbedRequest {
        inputs: source.into_iter().chain(sentences).map(Input::Text).collect(),
        prepare: prepare(None, parameters.prompt_name, truncate, side),
        dimensions: None,
        normalize: true,
    }
}

/// Cosines of the first vector with the others, all of length one.
pub fn similarities(vectors: &[Vec<f32>]) -> Vec<f32> {
    let (source, sentences) = vectors.split_first().expect("the source is the first input");
    let dot = |other: &Vec<f32>| source.iter().zip(other).map(|(a, b)| a * b).sum();
    sentences.iter().map(dot).collect()
}

/// Texts of a body.
pub fn texts(texts: Texts) -> Vec<String> {
    match texts {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    }
}

/// Token ids of a body.
pub fn ids(ids: Ids) -> Vec<Vec<u32>> {
    match ids {
        // An empty list could be either; it is nothing to decode.
        Ids::One(ids) if ids.is_empty() => Vec::new(),
        Ids::One(ids) => vec![ids],
        Ids::Many(ids) => ids,
    }
}

/// The prompt of a name.
pub fn prompt(name: Option<String>) -> Prompt {
    name.map_or(Prompt::Default, Prompt::Named)
}

/// A token as written.
pub fn token(token: Token) -> TokenEntry {
    let Token { id, text, special, start, stop } = token;
    TokenEntry { id, text, special, start, stop }
}

/// What is told of the default model.
pub fn info(app: &App) -> InfoAnswer {
    let (name, engine) = app.registry().get(None).expect("a registry has a default");
    let readout = engine.model().readouts.embedding.as_ref();
    let pooling = readout.map(|readout| readout.pooling().name().to_owned());
    let pooling = pooling.map(|pooling| ("embedding", BTreeMap::from([("pooling", pooling)])));
    InfoAnswer {
        model_id: name.to_owned(),
        model_sha: None,
        model_dtype: engine.info().dtype.clone(),
        served_model_name: name.to_owned(),
        model_type: pooling.into_iter().collect(),
        max_concurrent_requests: app.config().requests_max,
        max_input_length: engine.info().tokens_max,
        max_batch_tokens: engine.config().batch_tokens_max,
        max_batch_requests: None,
        max_client_batch_size: engine.config().inputs_max,
        auto_truncate: app.auto_truncate(),
        tokenization_workers: engine.config().tokenization_threads,
        version: env!("CARGO_PKG_VERSION"),
        sha: None,
        docker_label: None,
    }
}
