//! Voyage's multimodal embeddings: texts, images and videos together.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use proxima_engine::EmbedRequest;
use proxima_models::{
    Content, ImageHeader, Input, MediaFile, Part, Prepare, TruncationSide, VideoSource,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::failure;
use super::types::{EncodingFormat, VoyageEntry, entries};
use crate::dialects::Side;
use crate::dialects::dialect::respond;
use crate::dialects::inputs::sole_prompt;
use crate::dialects::items::{ItemContent, Name, Source, Unique, checked, content, resolve};
use crate::dialects::misspelt;
use crate::encoding::OutputEncoding;
use crate::http::{App, Chosen, Failure, JsonBody, Want, json_response, with_timings};

crate::dialects::object::objects! {
    MultimodalBody: &misspelt::VOYAGE_PARTS,
    MultimodalInput: &misspelt::NONE,
}

/// The path of this API.
pub const PATH: &str = "/v1/multimodalembeddings";

/// `POST /v1/multimodalembeddings`
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
#[schema(as = VoyageMultimodalBody)]
pub struct MultimodalBody {
    /// What to embed.
    #[schema(min_items = 1)]
    pub inputs: Vec<MultimodalInput>,
    /// The served name of a model.
    pub model: Option<String>,
    /// `query` or `document`; selects the checkpoint's prompt of this name, if it has one.
    pub input_type: Option<String>,
    /// Truncate inputs that are too long (on if absent) or refuse them.
    #[serde(alias = "truncate")]
    pub truncation: Option<bool>,
    /// `base64`, or lists if absent.
    pub output_encoding: Option<EncodingFormat>,
    /// The same, as Voyage's client asks for it.
    pub encoding_format: Option<EncodingFormat>,
    /// Keep only the first components.
    #[serde(alias = "dimensions")]
    #[schema(minimum = 1)]
    pub output_dimension: Option<usize>,
    /// Type of the numbers.
    pub output_dtype: Option<OutputEncoding>,
    /// Addition: a free-form instruction, put before each text in the model's own template.
    pub instruction: Option<String>,
    /// Addition: a prompt of the checkpoint, by name.
    pub prompt_name: Option<String>,
    /// Addition: which end of an overlong input is cut.
    pub truncation_direction: Option<Side>,
    /// Addition: scale vectors to length one; on if absent.
    pub normalize: Option<bool>,
}

/// An input of several parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
#[schema(as = VoyageInput)]
pub struct MultimodalInput {
    /// The parts, in their order.
    #[schema(value_type = ItemContent)]
    pub content: Unique,
}

/// The response to a multimodal embeddings request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VoyageMultimodalAnswer)]
pub struct MultimodalAnswer {
    /// `list`
    pub object: &'static str,
    /// One entry per input, in order.
    pub data: Vec<VoyageEntry>,
    /// The served name of the model.
    pub model: String,
    /// Tokens and pixels.
    pub usage: MultimodalUsage,
}

/// Tokens and pixels of a request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VoyageMultimodalUsage)]
pub struct MultimodalUsage {
    /// Tokens of the texts only, no more than were computed.
    pub text_tokens: usize,
    /// Pixels of the images, as they were sent.
    pub image_pixels: usize,
    /// Pixels of the frames of videos that were sent as images; those of video files are not known.
    pub video_pixels: usize,
    /// Tokens of all sequences: special tokens, images and videos included.
    pub total_tokens: usize,
}

/// Vectors of texts, images and videos, as in Voyage's API.
#[utoipa::path(
    post, path = "/v1/multimodalembeddings", tag = "voyage", request_body = MultimodalBody,
    responses((status = 200, body = MultimodalAnswer, description = "one vector per input")),
)]
pub async fn embeddings(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<MultimodalBody>,
) -> Response {
    respond(&app, embed(&app, body).await, failure)
}

async fn embed(app: &App, body: MultimodalBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Embed)?;
    let encoding = body.output_dtype.unwrap_or_default();
    let packed = body.output_encoding.or(body.encoding_format).is_some();
    let contents = contents(&chosen, body.inputs).await?;
    let parts = || contents.iter().flat_map(Content::parts);
    let image_pixels = parts().map(image_pixels).fold(0, usize::saturating_add);
    let video_pixels = parts().map(video_pixels).fold(0, usize::saturating_add);
    let texts: Vec<Vec<String>> = contents.iter().map(texts).collect();
    let request = EmbedRequest {
        inputs: contents.into_iter().map(Input::Content).collect(),
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
    let (timings, vectors) = (answer.timings, answer.vectors);
    let text_tokens = count(&chosen, texts).await.min(timings.n_tokens);
    let model = chosen.name().to_owned();
    let make = move || {
        let total_tokens = timings.n_tokens;
        let data = entries(vectors, encoding, packed);
        let usage = MultimodalUsage { text_tokens, image_pixels, video_pixels, total_tokens };
        MultimodalAnswer { object: "list", data, model, usage }
    };
    Ok(with_timings(json_response(timings.n_tokens, make).await, &timings))
}

/// Pixels of a part that is an image, by the header of its file; 0 where that cannot be read.
fn image_pixels(part: &Part) -> usize {
    match part {
        Part::Image(file) => pixels(file),
        _ => 0,
    }
}

/// Pixels of the frames of a part that is a video, if they were sent as images.
fn video_pixels(part: &Part) -> usize {
    match part {
        Part::Video(video) => match &video.source {
            VideoSource::Frames(frames) => {
                frames.iter().map(|file| pixels(file)).fold(0, usize::saturating_add)
            }
            VideoSource::File(_) => 0,
        },
        _ => 0,
    }
}

fn pixels(file: &MediaFile) -> usize {
    ImageHeader::of(file.bytes()).map_or(0, |header| header.pixels())
}

async fn contents(
    chosen: &Chosen<'_>,
    inputs: Vec<MultimodalInput>,
) -> Result<Vec<Content>, Failure> {
    let pending = (0..).map(Name::Input).zip(inputs).map(|(name, input)| {
        let item = content(input.content.0).and_then(|parts| checked(parts.into()));
        Ok((name, item.map_err(|problem| name.wrong(problem))?.into()))
    });
    let pending = pending.collect::<Result<Vec<(Name, Content<Source>)>, Failure>>()?;
    resolve(chosen.media(), pending).await
}

/// The texts of a content.
fn texts(content: &Content) -> Vec<String> {
    let parts = match content {
        Content::Text(text) => return vec![text.to_string()],
        Content::Item(item) => item.parts.iter(),
    };
    let texts = parts.filter_map(|part| match part {
        Part::Text(text) => Some(text.to_string()),
        Part::Image(_) | Part::Video(_) => None,
    });
    texts.collect()
}

/// Tokens of the inputs' texts, counting at most the model's limit for each input. The texts were
/// embedded before, so if counting fails, they count as 0 rather than losing the answer.
async fn count(chosen: &Chosen<'_>, texts: Vec<Vec<String>>) -> usize {
    let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
    let texts = texts.concat();
    if texts.is_empty() {
        return 0;
    }
    let mut tokens = chosen.count_tokens(texts).await.into_iter();
    let limit = chosen.info().tokens_max;
    lengths.into_iter().map(|count| tokens.by_ref().take(count).sum::<usize>().min(limit)).sum()
}
