//! Converts OpenAI's bodies to engine requests, and answers back.

use proxima_engine::{EmbedAnswer, EmbedRequest, Engine};
use proxima_models::Prepare;

use super::types::{EmbeddingEntry, EmbeddingsAnswer, EmbeddingsBody, ModelEntry, Usage};
use crate::dialects::inputs::{one_prompt, prepare};
use crate::dialects::token_ids::IdsOf;
use crate::encoding::OutputEncoding;
use crate::http::{Chosen, Failure};

/// The embedding request of a body.
///
/// # Errors
/// An invalid input, or a file that cannot be fetched.
pub async fn request(chosen: &Chosen<'_>, body: EmbeddingsBody) -> Result<EmbedRequest, Failure> {
    one_prompt(body.instruction.as_ref(), body.prompt_name.as_ref())?;
    // A request that names a limit wants longer inputs cut.
    let tokens_max = body.truncate_prompt_tokens.and_then(|limit| limit.0);
    let cuts = chosen.auto_truncate() || body.truncate_prompt_tokens.is_some();
    let truncate = body.truncate.unwrap_or(cuts);
    let how = prepare(body.instruction, body.prompt_name, truncate, body.truncation_direction);
    Ok(EmbedRequest {
        inputs: body.input.resolve(chosen, IdsOf::Client).await?,
        prepare: Prepare { tokens_max, ..how },
        dimensions: body.dimensions,
        normalize: body.normalize.unwrap_or(true),
    })
}

/// The body of an answer.
pub fn answer(answer: EmbedAnswer, encoding: OutputEncoding, model: String) -> EmbeddingsAnswer {
    let data = answer.vectors.into_iter().enumerate().map(|(index, vector)| EmbeddingEntry {
        object: "embedding",
        index,
        embedding: encoding.encode(vector),
    });
    let tokens = answer.timings.n_tokens;
    EmbeddingsAnswer {
        object: "list",
        data: data.collect(),
        model,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
    }
}

/// A model's entry in the list of models.
pub fn model_entry(name: &str, engine: &Engine, created: u64) -> ModelEntry {
    ModelEntry {
        id: name.to_owned(),
        object: "model",
        created,
        owned_by: "proxima",
        max_model_len: engine.info().tokens_max,
        dimensions: engine.info().capabilities.embedding,
    }
}
