//! Converts bodies of text-embeddings-inference to engine requests, and answers back.

use std::collections::BTreeMap;

use proxima_engine::{EmbedRequest, Engine, PredictRequest, RerankRequest, TokensRequest};
use proxima_models::readout::Similarity;
use proxima_models::recipes::Token;
use proxima_models::{Input, Prepare, Prompt};
use serde_json::Value;

use super::types::{
    EmbedAllBody, EmbedBody, Ids, InfoAnswer, PredictBody, PredictInputs, Prediction, RerankBody,
    ScoresInfo, SimilarityBody, Texts, TokenEntry,
};
use crate::dialects::classes::Scored;
use crate::dialects::inputs::{prepare, sole_prompt};
use crate::dialects::ranking::{self, Asked, Document};
use crate::dialects::token_ids::IdsOf;
use crate::http::{App, Chosen, Failure};

/// The request of an `/embed` body.
///
/// # Errors
/// An invalid input, or a file that cannot be fetched.
pub async fn embed_request(chosen: &Chosen<'_>, body: EmbedBody) -> Result<EmbedRequest, Failure> {
    let prompt = sole_prompt(body.instruction, body.prompt_name, body.input_type.as_deref())?;
    let truncate = body.truncate.unwrap_or(chosen.auto_truncate());
    Ok(EmbedRequest {
        inputs: body.inputs.resolve(chosen, IdsOf::Model).await?,
        prepare: Prepare { prompt, ..prepare(None, None, truncate, body.truncation_direction) },
        dimensions: body.dimensions,
        normalize: body.normalize.unwrap_or(true),
    })
}

/// The request of an `/embed_all` body.
///
/// # Errors
/// As for [`embed_request`].
pub async fn tokens_request(
    chosen: &Chosen<'_>,
    body: EmbedAllBody,
) -> Result<TokensRequest, Failure> {
    let prompt = sole_prompt(body.instruction, body.prompt_name, body.input_type.as_deref())?;
    let truncate = body.truncate.unwrap_or(chosen.auto_truncate());
    Ok(TokensRequest {
        inputs: body.inputs.resolve(chosen, IdsOf::Model).await?,
        prepare: Prepare { prompt, ..prepare(None, None, truncate, body.truncation_direction) },
    })
}

/// The request of a `/similarity` body: the source first, then the sentences. It is empty if there
/// are no sentences, which the engine refuses.
pub fn similarity_request(body: SimilarityBody, auto_truncate: bool) -> EmbedRequest {
    let parameters = body.parameters;
    let truncate = parameters.truncate.unwrap_or(auto_truncate);
    let side = parameters.truncation_direction;
    let sentences = body.inputs.sentences;
    let source = (!sentences.is_empty()).then_some(body.inputs.source_sentence);
    EmbedRequest {
        inputs: source.into_iter().chain(sentences).map(Input::from).collect(),
        prepare: prepare(None, parameters.prompt_name, truncate, side),
        dimensions: None,
        // The similarity function normalises vectors, if it needs to.
        normalize: false,
    }
}

/// Similarities of the first vector to the others; the vectors are not normalised.
pub fn similarities(vectors: &[Vec<f32>], how: Similarity) -> Vec<f32> {
    let (source, sentences) = vectors.split_first().expect("the source is the first input");
    sentences.iter().map(|other| how.of(source, other)).collect()
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
        // An empty list is ambiguous; there is nothing to decode.
        Ids::One(ids) if ids.is_empty() => Vec::new(),
        Ids::One(ids) => vec![ids],
        Ids::Many(ids) => ids,
    }
}

/// The prompt of this name; the default one if absent.
pub fn prompt(name: Option<String>) -> Prompt {
    name.map_or(Prompt::Default, Prompt::Named)
}

/// A token as an answer has it.
pub fn token(token: Token) -> TokenEntry {
    let Token { id, text, special, start, stop } = token;
    TokenEntry { id, text, special, start, stop }
}

/// What transformers calls an output without a name.
const UNNAMED: &str = "LABEL_0";

/// The kind of a model, and its details.
fn model_type(engine: &Engine) -> (&'static str, BTreeMap<&'static str, Value>) {
    let capabilities = &engine.info().capabilities;
    let names: Vec<&str> = capabilities.pooling.iter().map(|pooling| pooling.name()).collect();
    let pooling = match capabilities.embedding {
        Some(_) => Some(names.join("+")),
        None => capabilities.sparse.then(|| "splade".to_owned()),
    };
    if let Some(pooling) = pooling {
        return ("embedding", BTreeMap::from([("pooling", Value::from(pooling))]));
    }
    // The score of a ranker of lists has no name.
    let unnamed = [UNNAMED.to_owned()];
    let own: &[String] = if capabilities.lists { &unnamed } else { &[] };
    let labels = capabilities.labels.as_deref().unwrap_or(own);
    let kind = if labels.len() == 1 { "reranker" } else { "classifier" };
    let names = labels.iter().enumerate();
    let id2label = names.clone().map(|(id, name)| (id.to_string(), Value::from(name.as_str())));
    let label2id = names.map(|(id, name)| (name.clone(), Value::from(id)));
    let maps = [("id2label", id2label.collect()), ("label2id", label2id.collect())];
    (kind, BTreeMap::from(maps.map(|(name, map)| (name, Value::Object(map)))))
}

/// The request of a `/rerank` body.
///
/// # Errors
/// A text or document vectors that cannot be read, or a file that cannot be fetched.
pub async fn rerank_request(
    chosen: &Chosen<'_>,
    mut body: RerankBody,
) -> Result<RerankRequest, Failure> {
    let additions = body.additions();
    let asked = Asked {
        query: body.query,
        documents: body.texts,
        truncate: body.truncate.unwrap_or(chosen.auto_truncate()),
        document_tokens_max: body.max_tokens_per_doc,
        ..Asked::default()
    };
    ranking::request(chosen, asked, additions).await
}

/// The text returned for a document; `None` if it has none.
pub fn text_of(document: &Document) -> Option<String> {
    match document {
        Document::Text(text) => Some(text.clone()),
        Document::Parts(_) => None,
        Document::Object(object) => object.0.get("text").and_then(Value::as_str).map(str::to_owned),
    }
}

/// The request of a `/predict` body, and whether it has several inputs.
///
/// # Errors
/// An input that is neither one text nor two.
pub fn predict_request(
    body: PredictBody,
    auto_truncate: bool,
) -> Result<(PredictRequest, bool), Failure> {
    let (inputs, several) = match body.inputs {
        PredictInputs::Text(text) => (vec![vec![text]], false),
        // An empty list is ambiguous; it counts as no inputs.
        PredictInputs::Pair(texts) if texts.is_empty() => (Vec::new(), true),
        PredictInputs::Pair(texts) => (vec![texts], false),
        PredictInputs::Batch(batch) => (batch, true),
    };
    let input = |(index, texts): (usize, Vec<String>)| match <[String; 2]>::try_from(texts) {
        Ok([query, document]) => Ok(Input::Pair { query: query.into(), document: document.into() }),
        Err(mut texts) if texts.len() == 1 => Ok(Input::from(texts.remove(0))),
        Err(texts) => Err(Failure::Body {
            message: format!("input {index} has {} texts, not one or two", texts.len()),
            syntax: false,
        }),
    };
    let inputs = inputs.into_iter().enumerate().map(input).collect::<Result<Vec<_>, _>>()?;
    let truncate = body.truncate.unwrap_or(auto_truncate);
    let prepare = prepare(None, None, truncate, body.truncation_direction);
    Ok((PredictRequest { inputs, prepare }, several))
}

/// A class as an answer has it.
pub fn prediction(scored: Scored, raw: bool) -> Prediction {
    let score = if raw { scored.logit } else { scored.score };
    Prediction { score, label: scored.label }
}

/// The description of a model; without a name, of the default one.
///
/// # Errors
/// An unknown name, or a model that is not ready.
pub fn info(app: &App, model: Option<&str>) -> Result<InfoAnswer, Failure> {
    let (name, engine) = app.described(model)?;
    Ok(InfoAnswer {
        model_id: name.to_owned(),
        model_sha: None,
        model_dtype: engine.info().precision.clone(),
        served_model_name: name.to_owned(),
        model_type: BTreeMap::from([model_type(engine)]),
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
        similarity_fn_name: engine.info().similarity.function.name(),
        scores: engine.info().scores.map(|scores| ScoresInfo {
            predict: scores.classes.name(),
            checkpoint: scores.pairs.name(),
        }),
        warnings: engine.info().warnings.clone(),
    })
}
