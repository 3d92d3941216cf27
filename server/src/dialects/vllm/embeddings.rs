//! vLLM's embeddings of conversations: `/v1/embeddings` with `messages`.

use axum::response::Response;
use proxima_engine::EmbedRequest;
use proxima_models::{Content, Input, Prepare};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::dialects::Side;
use crate::dialects::inputs::{PromptTokens, prepare};
use crate::dialects::items::{
    Conversations, ItemObject, Name, Source, Unique, conversation, resolve,
};
use crate::dialects::misspelt;
use crate::dialects::status::{answer_id, now};
use crate::encoding::{EncodedVector, OutputEncoding};
use crate::http::{App, Chosen, Failure, Want, json_response, with_timings};

crate::dialects::object::objects! {
    ChatBody: &misspelt::OPENAI_CHAT,
}

/// `POST /v1/embeddings` with `messages`.
///
/// The content of the message is put into the model's own format; `add_special_tokens`,
/// `add_generation_prompt` and `continue_final_message` have no effect.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(remote = "Self")]
#[schema(as = VllmChatBody)]
pub struct ChatBody {
    /// A conversation, or a list of conversations.
    #[schema(value_type = Conversations)]
    pub messages: Unique,
    /// The served name of a model; the default model if absent.
    pub model: Option<String>,
    /// Encoding of the vectors.
    pub encoding_format: Option<OutputEncoding>,
    /// Keep only the first components (Matryoshka), then normalise again.
    #[schema(minimum = 1)]
    pub dimensions: Option<usize>,
    /// Number of tokens of each input that are used; -1 for the model's limit.
    pub truncate_prompt_tokens: Option<PromptTokens>,
    /// Which end is cut.
    #[serde(alias = "truncation_direction")]
    pub truncation_side: Option<Side>,
    /// Must be absent: the format is the model's.
    #[schema(value_type = (), required = false)]
    pub chat_template: Option<Value>,
    /// `instruction`, for conversations without a system message; other keys have no effect.
    #[serde(default)]
    #[schema(value_type = Option<TemplateKwargs>)]
    pub chat_template_kwargs: TemplateKwargs,
    /// Must be empty: images are resized as the checkpoint's processor does.
    #[serde(default)]
    pub mm_processor_kwargs: ProcessorKwargs,
    /// Must be empty: videos are sampled by `fps` and `max_frames` of their parts.
    #[serde(default)]
    pub media_io_kwargs: ProcessorKwargs,
    /// Addition: an instruction, for conversations without a system message.
    pub instruction: Option<String>,
    /// Addition: truncate inputs that are too long (`true`) or refuse them (`false`).
    pub truncate: Option<bool>,
    /// Addition: scale vectors to length one; on if absent.
    #[serde(alias = "use_activation")]
    pub normalize: Option<bool>,
}

/// What vLLM passes to a chat template.
#[derive(Debug, Default, ToSchema)]
pub struct TemplateKwargs {
    /// The instruction.
    pub instruction: Option<String>,
}

impl TemplateKwargs {
    /// Its instruction, or that of the request.
    ///
    /// # Errors
    /// Both are given, and differ.
    pub fn or(self, instruction: Option<String>) -> Result<Option<String>, Failure> {
        match (self.instruction, instruction) {
            (Some(one), Some(other)) if one != other => Err(Failure::body(
                "send either \"instruction\" or the instruction of \"chat_template_kwargs\", not both",
            )),
            (one, other) => Ok(other.or(one)),
        }
    }
}

impl<'de> Deserialize<'de> for TemplateKwargs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(remote = "Self")]
        struct Kwargs {
            instruction: Option<String>,
        }
        crate::dialects::object::objects! { Kwargs: &misspelt::NONE }
        let kwargs = Option::<Kwargs>::deserialize(deserializer)?;
        Ok(Self { instruction: kwargs.and_then(|kwargs| kwargs.instruction) })
    }
}

/// Options that vLLM passes to its processor of images and videos.
#[derive(Debug, Default, Deserialize)]
pub struct ProcessorKwargs(Option<ItemObject>);

impl ProcessorKwargs {
    /// Refuses options that would change the vectors if they were applied.
    ///
    /// # Errors
    /// A key whose value is not null.
    pub fn check(&self) -> Result<(), Failure> {
        let said = self.0.iter().flat_map(|object| &object.0).find(|(_, value)| !value.is_null());
        said.map_or(Ok(()), |(key, _)| {
            Err(Failure::body(format!(
                "{key:.40?} cannot be set by a request: images and videos are processed as the \
                 checkpoint specifies; put fps and max_frames into a part of type video"
            )))
        })
    }
}

impl ToSchema for ProcessorKwargs {}

impl PartialSchema for ProcessorKwargs {
    fn schema() -> RefOr<Schema> {
        let nothing = ObjectBuilder::new().schema_type(Type::Null);
        let kinds = SchemaType::Array(vec![Type::Object, Type::Null]);
        ObjectBuilder::new()
            .schema_type(kinds)
            .description(Some(
                "What vLLM passes to its processor of images and videos; must be empty.",
            ))
            .additional_properties(Some(nothing))
            .into()
    }
}

/// The response to an embeddings request with `messages`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VllmChatAnswer)]
pub struct ChatAnswer {
    /// Id of this response.
    id: String,
    /// `list`
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// The served name of the model.
    model: String,
    /// One entry per conversation, in order.
    data: Vec<VllmEntry>,
    /// Tokens.
    usage: Usage,
}

/// One vector.
#[derive(Debug, Serialize, ToSchema)]
struct VllmEntry {
    /// Index of its conversation.
    index: usize,
    /// `embedding`
    object: &'static str,
    /// The vector, in the requested encoding.
    embedding: EncodedVector,
}

/// Tokens of a request, including those of images.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VllmChatUsage)]
struct Usage {
    /// Tokens of all sequences, special tokens included.
    prompt_tokens: usize,
    /// The same.
    total_tokens: usize,
    /// Always 0.
    completion_tokens: usize,
}

/// Answers a body with `messages`.
pub async fn chat(app: &App, body: ChatBody) -> Result<Response, Failure> {
    let chosen = app.choose(body.model.as_deref(), Want::Embed)?;
    let encoding = body.encoding_format.unwrap_or_default();
    let answer = chosen.embed(request(&chosen, body).await?).await?;
    let model = chosen.name().to_owned();
    let timings = answer.timings;
    let tokens = timings.n_tokens;
    let make = move || {
        let data = answer.vectors.into_iter().enumerate().map(|(index, vector)| VllmEntry {
            index,
            object: "embedding",
            embedding: encoding.encode(vector),
        });
        ChatAnswer {
            id: answer_id("embd"),
            object: "list",
            created: now(),
            model,
            data: data.collect(),
            usage: Usage { prompt_tokens: tokens, total_tokens: tokens, completion_tokens: 0 },
        }
    };
    Ok(with_timings(json_response(tokens, make).await, &timings))
}

async fn request(chosen: &Chosen<'_>, body: ChatBody) -> Result<EmbedRequest, Failure> {
    body.mm_processor_kwargs.check()?;
    body.media_io_kwargs.check()?;
    if body.chat_template.is_some_and(|template| !template.is_null()) {
        return Err(Failure::body("chat_template cannot be set: the format is the model's own"));
    }
    let tokens_max = body.truncate_prompt_tokens.and_then(|limit| limit.0);
    let cuts = chosen.auto_truncate() || body.truncate_prompt_tokens.is_some();
    let instruction = body.chat_template_kwargs.or(body.instruction)?;
    let truncate = body.truncate.unwrap_or(cuts);
    let how = prepare(instruction, None, truncate, body.truncation_side);
    let contents = resolve(chosen.media(), conversations(body.messages.0)?).await?;
    Ok(EmbedRequest {
        inputs: contents.into_iter().map(Input::Content).collect(),
        prepare: Prepare { tokens_max, ..how },
        dimensions: body.dimensions,
        normalize: body.normalize.unwrap_or(true),
    })
}

/// The content of a conversation, or of several.
fn conversations(messages: Value) -> Result<Vec<(Name, Content<Source>)>, Failure> {
    let all = match messages {
        Value::Array(list) if list.first().is_some_and(Value::is_array) => list,
        one => vec![one],
    };
    let all = (0..).map(Name::Input).zip(all).map(|(name, messages)| {
        let item = conversation(messages).map_err(|problem| name.wrong(problem))?;
        Ok((name, item.into()))
    });
    all.collect()
}
