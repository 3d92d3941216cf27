//! Converts Proxima's own messages to engine requests, and answers back.
//!
//! Must not know: streams, limits, call metadata.

use std::time::Duration;

use proxima_engine::{
    EmbedRequest, Engine, Listwise, PredictRequest, RerankAnswer, RerankMethod, RerankRequest,
    ScoreForm, Timings,
};
use proxima_models::readout::quantize;
use proxima_models::recipes::Token;
use proxima_models::{Input, ListwiseTemplate, Prepare};

use super::items;
use crate::dialects::Side;
use crate::dialects::classes::Scored;
use crate::dialects::grpc::proto::proxima as pb;
use crate::dialects::inputs::{Unresolved, one_prompt, prepare, sole_prompt};
use crate::dialects::items::{Name, resolve};
use crate::dialects::token_ids::never;
use crate::http::{Chosen, Failure, TokenIds};

/// An invalid request, with this message.
fn wrong(message: impl Into<String>) -> Failure {
    Failure::body(message)
}

/// The value of an enumeration, if it is a known one.
fn known<E: TryFrom<i32>>(field: &str, value: i32) -> Result<E, Failure> {
    E::try_from(value).map_err(|_| wrong(format!("`{field}` cannot be {value}")))
}

fn side(direction: i32) -> Result<Option<Side>, Failure> {
    Ok(Some(match known("truncation_direction", direction)? {
        pb::TruncationDirection::Right => Side::Right,
        pb::TruncationDirection::Left => Side::Left,
    }))
}

fn count(number: Option<u32>) -> Option<usize> {
    number.map(|number| number as usize)
}

/// The engine's inputs, with all files fetched.
async fn inputs(chosen: &Chosen<'_>, sent: Vec<pb::Input>) -> Result<Vec<Input>, Failure> {
    let mut unresolved = Unresolved::default();
    for (index, sent) in sent.into_iter().enumerate() {
        let name = Name::Input(index);
        match sent.input {
            Some(pb::input::Input::Tokens(_)) if chosen.token_ids() == TokenIds::Refuse => {
                return Err(wrong(never(index)));
            }
            Some(pb::input::Input::Text(text)) => unresolved.content(name, text.into()),
            Some(pb::input::Input::Tokens(tokens)) => unresolved.tokens(tokens.ids),
            Some(pb::input::Input::Item(item)) => {
                unresolved.content(name, items::item(name, item)?.into());
            }
            None => {
                return Err(wrong(format!(
                    "input {index} has none of `text`, `tokens` and `item`"
                )));
            }
        }
    }
    unresolved.resolve(chosen).await
}

/// The embedding request, and the encoding of its vectors.
pub async fn embed_request(
    chosen: &Chosen<'_>,
    message: pb::EmbedRequest,
) -> Result<(EmbedRequest, pb::Encoding), Failure> {
    let encoding = known("encoding", message.encoding)?;
    let truncate = message.truncate.unwrap_or(chosen.auto_truncate());
    let side = side(message.truncation_direction)?;
    let input_type = message.input_type.as_deref();
    let prompt = sole_prompt(message.instruction, message.prompt_name, input_type)?;
    let request = EmbedRequest {
        inputs: inputs(chosen, message.inputs).await?,
        prepare: Prepare {
            prompt,
            tokens_max: count(message.max_tokens),
            ..prepare(None, None, truncate, side)
        },
        dimensions: count(message.dimensions),
        normalize: message.normalize.unwrap_or(true),
    };
    Ok((request, encoding))
}

/// A vector in its encoding.
pub fn vector(vector: Vec<f32>, encoding: pb::Encoding) -> pb::Vector {
    let bytes = match encoding {
        pb::Encoding::Float => return pb::Vector { floats: vector, bytes: Vec::new() },
        pb::Encoding::FloatBytes => vector.iter().flat_map(|value| value.to_le_bytes()).collect(),
        pb::Encoding::Int8 => unsigned(quantize::int8(&vector)),
        pb::Encoding::Uint8 => quantize::uint8(&vector),
        pb::Encoding::Binary => unsigned(quantize::binary(&vector)),
        pb::Encoding::Ubinary => quantize::ubinary(&vector),
    };
    pb::Vector { floats: Vec::new(), bytes }
}

/// The same bits as unsigned bytes.
fn unsigned(bytes: Vec<i8>) -> Vec<u8> {
    bytes.into_iter().map(i8::cast_unsigned).collect()
}

/// The ranking request.
pub async fn rerank_request(
    chosen: &Chosen<'_>,
    mut message: pb::RerankRequest,
) -> Result<RerankRequest, Failure> {
    let truncate = message.truncate.unwrap_or(chosen.auto_truncate());
    let side = side(message.truncation_direction)?;
    one_prompt(message.instruction.as_ref(), message.prompt_name.as_ref())?;
    let (query, instruction) = items::query(&mut message)?;
    let documents = items::documents(&mut message)?;
    let pending = std::iter::once((Name::Query, query)).chain(documents).collect();
    let mut contents = resolve(chosen.media(), pending).await?;
    let documents = contents.split_off(1);
    let query = contents.pop().ok_or(Failure::Bug)?;
    let instruction = instruction.or(message.instruction);
    let prepare = prepare(instruction, message.prompt_name, truncate, side);
    let vectors = message.document_vectors.into_iter().enumerate();
    Ok(RerankRequest {
        query,
        documents,
        prepare: Prepare { document_tokens_max: count(message.max_tokens_per_document), ..prepare },
        method: match known("method", message.method)? {
            pb::RerankMethod::Auto => None,
            pb::RerankMethod::Pointwise => Some(RerankMethod::Pointwise),
            pb::RerankMethod::Listwise => Some(RerankMethod::Listwise),
            pb::RerankMethod::Similarity => Some(RerankMethod::Similarity),
            pb::RerankMethod::MaxSim => Some(RerankMethod::MaxSim),
        },
        listwise: listwise(message.listwise.unwrap_or_default())?,
        document_vectors: vectors
            .map(|(index, vector)| document_vector(index, vector))
            .collect::<Result<_, _>>()?,
        scores: ScoreForm::Probability,
    })
}

fn listwise(options: pb::ListwiseOptions) -> Result<Listwise, Failure> {
    use pb::listwise_options::Template;
    let default = Listwise::default();
    let template = match options.template {
        None => default.template,
        Some(Template::Given(text)) => ListwiseTemplate::Given(text),
        Some(Template::Known(template)) => match known("template", template)? {
            pb::ListwiseTemplate::Paper => ListwiseTemplate::Paper,
            pb::ListwiseTemplate::Readme => ListwiseTemplate::Readme,
            pb::ListwiseTemplate::Training => ListwiseTemplate::Training,
        },
    };
    Ok(Listwise {
        candidates: count(options.candidates).unwrap_or(default.candidates),
        step: count(options.step),
        passes: count(options.passes).unwrap_or(default.passes),
        template,
    })
}

fn document_vector(index: usize, vector: pb::Vector) -> Result<Vec<f32>, Failure> {
    let pb::Vector { floats, bytes } = vector;
    let (numbers, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        let length = bytes.len();
        return Err(wrong(format!(
            "document vector {index} has {length} bytes, which is not a multiple of four"
        )));
    }
    if !(floats.is_empty() || numbers.is_empty()) {
        return Err(wrong(format!("document vector {index} has both `floats` and `bytes`")));
    }
    if numbers.is_empty() {
        return Ok(floats);
    }
    Ok(numbers.iter().map(|number| f32::from_le_bytes(*number)).collect())
}

/// The ranked documents; `documents` is empty if they were not requested, and has `None` for a
/// document without text.
pub fn ranked(
    answer: &RerankAnswer,
    top_n: Option<u32>,
    documents: &[Option<String>],
) -> Vec<pb::RankedDocument> {
    let wanted = answer.order.iter().take(count(top_n).unwrap_or(usize::MAX));
    let ranked = wanted.map(|&index| pb::RankedDocument {
        index: index as u32,
        score: answer.score(index),
        raw_score: answer.raw[index],
        document: documents.get(index).cloned().flatten(),
    });
    ranked.collect()
}

/// A ranking method as a message.
pub fn method(method: Option<RerankMethod>) -> pb::RerankMethod {
    match method {
        None => pb::RerankMethod::Auto,
        Some(RerankMethod::Pointwise) => pb::RerankMethod::Pointwise,
        Some(RerankMethod::Listwise) => pb::RerankMethod::Listwise,
        Some(RerankMethod::Similarity) => pb::RerankMethod::Similarity,
        Some(RerankMethod::MaxSim) => pb::RerankMethod::MaxSim,
    }
}

/// The classification request; `auto_truncate` is the server's setting.
pub fn predict_request(
    message: pb::PredictRequest,
    auto_truncate: bool,
) -> Result<PredictRequest, Failure> {
    let truncate = message.truncate.unwrap_or(auto_truncate);
    let input = |input: pb::TextOrPair| match input.pair {
        Some(pair) => Input::Pair { query: input.text.into(), document: pair.into() },
        None => Input::from(input.text),
    };
    Ok(PredictRequest {
        inputs: message.inputs.into_iter().map(input).collect(),
        prepare: prepare(None, None, truncate, side(message.truncation_direction)?),
    })
}

/// Classes as a message.
pub fn classes(scored: Vec<Scored>) -> pb::Classes {
    let classes = scored.into_iter().map(|class| pb::Class {
        label: class.label,
        score: class.score,
        raw_score: class.logit,
    });
    pb::Classes { classes: classes.collect() }
}

/// Tokens as a message.
pub fn tokens(tokens: Vec<Token>) -> pb::Tokens {
    let tokens = tokens.into_iter().map(|Token { id, text, special, start, stop }| pb::Token {
        id,
        text,
        special,
        start: start.map(|offset| offset as u32),
        stop: stop.map(|offset| offset as u32),
    });
    pb::Tokens { tokens: tokens.collect() }
}

/// Timings as a message.
pub fn timings(timings: &Timings) -> pb::Timings {
    let nanoseconds = |duration: Duration| duration.as_nanos() as u64;
    pb::Timings {
        characters: timings.n_chars as u64,
        tokens: timings.n_tokens as u64,
        total_ns: nanoseconds(timings.total),
        tokenization_ns: nanoseconds(timings.tokenization),
        queue_ns: nanoseconds(timings.queue),
        inference_ns: nanoseconds(timings.inference),
    }
}

/// The description of a model.
pub fn model(name: &str, engine: &Engine) -> pb::Model {
    let info = engine.info();
    pb::Model {
        name: name.to_owned(),
        family: info.family.clone(),
        recipe: info.recipe.clone(),
        device: info.device.clone(),
        dtype: info.precision.clone(),
        max_tokens: info.tokens_max as u32,
        dimensions: info.capabilities.embedding.map(|width| width as u32),
        labels: info.capabilities.labels.clone().unwrap_or_default(),
        prompts: info.prompts.clone().into_iter().collect(),
        rerank_method: method(engine.rerank_method()).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_encoding_is_as_documented() {
        let bytes = |encoding| vector(vec![0.5, -0.25, 0.0, -1.0], encoding).bytes;
        let floats = vector(vec![0.5, -0.25], pb::Encoding::Float);
        assert_eq!((floats.floats, floats.bytes), (vec![0.5, -0.25], vec![]));
        assert_eq!(bytes(pb::Encoding::FloatBytes)[..8], [0, 0, 0, 0x3f, 0, 0, 0x80, 0xbe]);
        assert_eq!(
            bytes(pb::Encoding::Int8),
            [64, 256 - 32, 0, 256 - 127].map(|value| value as u8)
        );
        assert_eq!(bytes(pb::Encoding::Uint8), [192, 96, 128, 1]);
        assert_eq!(bytes(pb::Encoding::Ubinary), [160]);
        assert_eq!(bytes(pb::Encoding::Binary), [32]);
    }

    #[test]
    fn document_vectors_are_read_as_numbers_or_bytes() {
        let read =
            |floats: Vec<f32>, bytes: Vec<u8>| document_vector(0, pb::Vector { floats, bytes });
        let written = vector(vec![0.5, -1.0], pb::Encoding::FloatBytes);
        assert_eq!(read(vec![], written.bytes.clone()), Ok(vec![0.5, -1.0]));
        assert_eq!(read(vec![0.5], vec![]), Ok(vec![0.5]));
        assert!(read(vec![0.5], written.bytes).is_err() && read(vec![], vec![1, 2]).is_err());
    }
}
