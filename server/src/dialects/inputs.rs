//! What several dialects share: texts or token ids, one or many; the side of truncation.
//!
//! Must not know: any one dialect.

use proxima_models::{Input, Prepare, Prompt, TruncationSide};
use serde::Deserialize;
use utoipa::ToSchema;

/// A text or token ids.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(untagged, expecting = "expected a string, a list of token ids, or an object with \"text\"")]
pub enum OneInput {
    /// A text.
    Text(String),
    /// A text in an object.
    Object {
        /// The text.
        text: String,
    },
    /// Token ids, taken as they are.
    Ids(Vec<u32>),
}

/// One input or several.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(
    untagged,
    expecting = "expected a string, a list of strings, a list of token ids, or a list of such lists"
)]
pub enum Inputs {
    /// One.
    One(OneInput),
    /// Several.
    Many(Vec<OneInput>),
}

impl From<OneInput> for Input {
    fn from(input: OneInput) -> Self {
        match input {
            OneInput::Text(text) | OneInput::Object { text } => Self::Text(text),
            OneInput::Ids(ids) => Self::Tokens(ids),
        }
    }
}

impl From<Inputs> for Vec<Input> {
    fn from(inputs: Inputs) -> Self {
        match inputs {
            // An empty list could be either; it is no input.
            Inputs::One(OneInput::Ids(ids)) if ids.is_empty() => Self::new(),
            Inputs::One(input) => vec![input.into()],
            Inputs::Many(inputs) => inputs.into_iter().map(Input::from).collect(),
        }
    }
}

/// Which end of a too long input is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub enum Side {
    /// The beginning.
    #[serde(alias = "left")]
    Left,
    /// The end.
    #[default]
    #[serde(alias = "right")]
    Right,
}

impl From<Side> for TruncationSide {
    fn from(side: Side) -> Self {
        match side {
            Side::Left => Self::Left,
            Side::Right => Self::Right,
        }
    }
}

/// Prompt and truncation of a request. An instruction goes before a prompt's name, and either
/// before the checkpoint's default.
pub fn prepare(
    instruction: Option<String>,
    prompt_name: Option<String>,
    truncate: bool,
    side: Option<Side>,
) -> Prepare {
    let prompt = match (instruction, prompt_name) {
        (Some(instruction), _) => Prompt::Instruction(instruction),
        (None, Some(name)) => Prompt::Named(name),
        (None, None) => Prompt::Default,
    };
    Prepare { prompt, truncate, side: side.unwrap_or_default().into(), ..Prepare::default() }
}

/// The prompt of what a text is for, in the words of any dialect; `None` for words without a
/// prompt of their own.
pub fn purpose_prompt(purpose: Option<&str>) -> Prompt {
    match purpose {
        None => Prompt::Default,
        Some("query" | "search_query" | "retrieval.query") => Prompt::query(),
        Some("document" | "passage" | "search_document" | "retrieval.passage") => {
            Prompt::document()
        }
        Some(other) => Prompt::first_of(&[other]),
    }
}

/// A number of tokens, or -1 for the model's limit.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(value_type = i64)]
pub struct PromptTokens(pub Option<usize>);

impl TryFrom<i64> for PromptTokens {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        match number {
            -1 => Ok(Self(None)),
            1.. => Ok(Self(usize::try_from(number).ok())),
            _ => Err(format!("truncate_prompt_tokens must be -1 or at least 1, not {number}")),
        }
    }
}
