//! Shared by several dialects: inputs (texts, token ids or objects), prompts, truncation.
//!
//! Must not know: any particular dialect.

use std::fmt;

use proxima_models::{Content, Input, Prepare, Prompt, TruncationSide};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use utoipa::ToSchema;

use super::items::{ItemObject, Name, Source, read_item, resolve};
use super::token_ids::IdsOf;
use crate::http::{Chosen, Failure};

/// A text, token ids, or an object of several parts.
#[derive(Debug, Clone, PartialEq)]
pub enum OneInput {
    /// A text.
    Text(String),
    /// Token ids, used as they are.
    Ids(Vec<u32>),
    /// Texts, images and videos that form one input.
    Object(ItemObject),
}

impl OneInput {
    /// Its token ids, if it consists of them.
    fn ids(&self) -> Option<&[u32]> {
        match self {
            Self::Ids(ids) => Some(ids),
            Self::Text(_) | Self::Object(_) => None,
        }
    }
}

/// One input or several.
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// One.
    One(OneInput),
    /// Several.
    Many(Vec<OneInput>),
}

const ONE: &str = "a string, a list of token ids, or an object";
const ONE_OR_MANY: &str =
    "a string, a list of strings, a list of token ids, an object, or a list of these";

/// Reads one input directly, however large it is, without an intermediate value.
struct OneVisitor;

impl<'de> Visitor<'de> for OneVisitor {
    type Value = OneInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ONE)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OneInput, E> {
        Ok(OneInput::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<OneInput, E> {
        Ok(OneInput::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, ids: A) -> Result<OneInput, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(ids)).map(OneInput::Ids)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneInput, A::Error> {
        ItemObject::deserialize(MapAccessDeserializer::new(map)).map(OneInput::Object)
    }
}

impl<'de> Deserialize<'de> for OneInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneVisitor)
    }
}

/// A list entry: an input, or a token id when the list itself is one input.
enum InputElement {
    Input(OneInput),
    Id(u32),
}

impl<'de> Deserialize<'de> for InputElement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;
        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = InputElement;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a token id, {ONE}")
            }

            fn visit_u64<E: de::Error>(self, id: u64) -> Result<InputElement, E> {
                u32::try_from(id)
                    .map(InputElement::Id)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(id), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<InputElement, E> {
                OneVisitor.visit_str(text).map(InputElement::Input)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, ids: A) -> Result<InputElement, A::Error> {
                OneVisitor.visit_seq(ids).map(InputElement::Input)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<InputElement, A::Error> {
                OneVisitor.visit_map(map).map(InputElement::Input)
            }
        }
        deserializer.deserialize_any(ElementVisitor)
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InputsVisitor;
        impl<'de> Visitor<'de> for InputsVisitor {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ONE_OR_MANY)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Inputs, E> {
                OneVisitor.visit_str(text).map(Inputs::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Inputs, A::Error> {
                let mut inputs = match list.next_element()? {
                    // An empty list is ambiguous; it counts as no inputs.
                    None => return Ok(Inputs::Many(Vec::new())),
                    Some(InputElement::Id(id)) => {
                        let mut ids = vec![id];
                        while let Some(id) = list.next_element()? {
                            ids.push(id);
                        }
                        return Ok(Inputs::One(OneInput::Ids(ids)));
                    }
                    Some(InputElement::Input(input)) => vec![input],
                };
                while let Some(input) = list.next_element()? {
                    inputs.push(input);
                }
                Ok(Inputs::Many(inputs))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Inputs, A::Error> {
                OneVisitor.visit_map(map).map(Inputs::One)
            }
        }
        deserializer.deserialize_any(InputsVisitor)
    }
}

impl Inputs {
    /// The engine's inputs, with all files fetched.
    ///
    /// # Errors
    /// Refused token ids, an invalid object, or a file that cannot be fetched.
    pub async fn resolve(self, chosen: &Chosen<'_>, ids: IdsOf) -> Result<Vec<Input>, Failure> {
        let inputs = match self {
            Self::One(input) => vec![input],
            Self::Many(inputs) => inputs,
        };
        ids.check(chosen, inputs.iter().map(OneInput::ids))?;
        let mut unresolved = Unresolved::default();
        for (index, input) in inputs.into_iter().enumerate() {
            let name = Name::Input(index);
            match input {
                OneInput::Text(text) => unresolved.content(name, text.into()),
                OneInput::Ids(ids) => unresolved.tokens(ids),
                OneInput::Object(object) => {
                    let item = read_item(object.0).map_err(|problem| name.wrong(problem))?;
                    unresolved.content(name, item.into());
                }
            }
        }
        unresolved.resolve(chosen).await
    }
}

/// Inputs in the order of a request, before their files are fetched.
#[derive(Debug, Default)]
pub struct Unresolved {
    /// For each input: its token ids, or `None` for the next content.
    ids: Vec<Option<Vec<u32>>>,
    contents: Vec<(Name, Content<Source>)>,
}

impl Unresolved {
    /// Adds an input that is a content.
    pub fn content(&mut self, name: Name, content: Content<Source>) {
        self.ids.push(None);
        self.contents.push((name, content));
    }

    /// Adds an input that is token ids.
    pub fn tokens(&mut self, ids: Vec<u32>) {
        self.ids.push(Some(ids));
    }

    /// The engine's inputs, with all files fetched.
    ///
    /// # Errors
    /// A file that cannot be fetched.
    pub async fn resolve(self, chosen: &Chosen<'_>) -> Result<Vec<Input>, Failure> {
        let mut contents = resolve(chosen.media(), self.contents).await?.into_iter();
        let inputs = self.ids.into_iter().map(|ids| match ids {
            Some(ids) => Some(Input::Tokens(ids)),
            None => contents.next().map(Input::Content),
        });
        Ok(inputs.flatten().collect())
    }
}

super::object::words! { Side }

/// Which end of an overlong input is cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, ToSchema)]
#[serde(remote = "Self")]
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

/// Refuses a request with both an instruction and a prompt name: one would have no effect.
///
/// # Errors
/// Both are given.
pub fn one_prompt(
    instruction: Option<&String>,
    prompt_name: Option<&String>,
) -> Result<(), Failure> {
    match (instruction, prompt_name) {
        (Some(_), Some(_)) => {
            Err(Failure::body("send either \"instruction\" or \"prompt_name\", not both"))
        }
        _ => Ok(()),
    }
}

/// The prompt of a request that states the purpose of its inputs in its dialect's terms, gives an
/// instruction, or names a prompt.
///
/// # Errors
/// More than one of these: the others would have no effect.
pub fn sole_prompt(
    instruction: Option<String>,
    prompt_name: Option<String>,
    purpose: Option<&str>,
) -> Result<Prompt, Failure> {
    one_prompt(instruction.as_ref(), prompt_name.as_ref())?;
    match (instruction, prompt_name, purpose) {
        (None, None, purpose) => Ok(purpose_prompt(purpose)),
        (Some(instruction), None, None) => Ok(Prompt::Instruction(instruction)),
        (None, Some(name), None) => Ok(Prompt::Named(name)),
        _ => Err(Failure::body(
            "send one of \"input_type\" (or \"task\"), \"instruction\" and \"prompt_name\", not several",
        )),
    }
}

/// Prompt and truncation of a request. An instruction, or else a prompt's name, takes precedence
/// over the checkpoint's default; see [`one_prompt`].
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
    Prepare {
        prompt,
        truncate,
        side: side.map(TruncationSide::from).unwrap_or_default(),
        ..Prepare::default()
    }
}

/// The prompt for a text's purpose, in any dialect's terms; other terms are tried as prompt names.
pub fn purpose_prompt(purpose: Option<&str>) -> Prompt {
    purpose.map_or(Prompt::Default, Prompt::for_purpose)
}

/// A number of tokens, or -1 for the model's limit.
#[derive(Debug, Clone, Copy, serde::Deserialize)]
#[serde(try_from = "i64")]
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
