//! What a request's prompt stands for, and the text that a prompt or an instruction becomes before
//! an input, the same in all recipes.
//!
//! Must not know: chat templates, tokenizers.

use std::collections::BTreeMap;

use super::known_prompts;
use crate::checkpoint::Checkpoint;
use crate::conventions::Conventions;
use crate::input::{InputError, Prompt};

/// What stands for an absent title in EmbeddingGemma's prompt for documents.
const NO_TITLE: &str = "title: none |";

/// The prompts of a checkpoint's `config_sentence_transformers.json`, and how it is given a free
/// instruction.
#[derive(Debug, Clone, Default)]
pub struct Prompts {
    named: BTreeMap<String, String>,
    default: Option<String>,
    template: InstructionTemplate,
}

/// How a free instruction becomes the text prepended to an input: it is put between these.
#[derive(Debug, Clone, Default)]
struct InstructionTemplate {
    before: String,
    after: String,
}

/// What a prompt stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolved<'a> {
    /// The request sets no prompt, and the checkpoint has no default.
    Default,
    /// No prompt.
    None,
    /// A prompt of the checkpoint.
    Text(&'a str),
    /// A free instruction; not empty.
    Instruction(&'a str),
}

impl InstructionTemplate {
    /// The template of the checkpoint's own prompts (`Instruct: ...\nQuery:` and the like); if they
    /// have none, that of the model type.
    fn of(conventions: &Conventions, prompts: &BTreeMap<String, String>) -> Self {
        let end = prompts.values().find_map(|prompt| {
            let rest = prompt.strip_prefix("Instruct: ")?;
            Some(&rest[rest.rfind('\n')?..])
        });
        let [before, after] = end.map_or(conventions.instruction, |end| ["Instruct: ", end]);
        Self { before: before.into(), after: after.into() }
    }
}

impl Prompts {
    /// The prompts of a checkpoint.
    pub fn of(checkpoint: &Checkpoint, conventions: &Conventions) -> Self {
        let modules = checkpoint.sentence_transformers();
        let mut named = modules.map(|modules| modules.prompts.clone()).unwrap_or_default();
        let name = modules.and_then(|modules| modules.default_prompt_name.as_ref());
        let default = name.and_then(|name| named.get(name).cloned());
        // sentence-transformers saves empty texts as `query` and `document` with any model.
        let known = known_prompts::of(checkpoint);
        if !known.is_empty() && named.values().all(String::is_empty) {
            named = known.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
        }
        let template = InstructionTemplate::of(conventions, &named);
        Self { named, default, template }
    }

    /// Adds a prompt, unless there is one of this name.
    pub fn with(mut self, name: &str, prompt: &str) -> Self {
        self.named.entry(name.to_owned()).or_insert_with(|| prompt.to_owned());
        self
    }

    /// All prompts by name.
    pub fn named(&self) -> &BTreeMap<String, String> {
        &self.named
    }

    /// What a prompt stands for.
    ///
    /// # Errors
    /// An unknown name.
    pub fn resolve<'a>(&'a self, prompt: &'a Prompt) -> Result<Resolved<'a>, InputError> {
        let default = || self.default.as_deref().map_or(Resolved::Default, Resolved::Text);
        Ok(match prompt {
            Prompt::Default => default(),
            Prompt::None => Resolved::None,
            Prompt::Instruction(text) if text.is_empty() => Resolved::None,
            Prompt::Instruction(text) => Resolved::Instruction(text),
            Prompt::FirstOf(names) => {
                let found = names.iter().find_map(|name| self.named.get(name));
                found.map_or_else(default, |text| Resolved::Text(text))
            }
            Prompt::Named(name) => match self.named.get(name) {
                Some(text) => Resolved::Text(text),
                None => {
                    let known = self.named.keys().cloned().collect();
                    return Err(InputError::UnknownPrompt { name: name.clone(), known });
                }
            },
        })
    }

    /// As [`text`](Self::text), with the title of a document.
    ///
    /// # Errors
    /// An unknown name, or a prompt without room for a title.
    pub fn titled(&self, prompt: &Prompt, title: Option<&str>) -> Result<String, InputError> {
        let text = self.text(prompt)?;
        match title {
            None => Ok(text),
            Some(_) if !text.contains(NO_TITLE) => Err(InputError::NoTitle),
            Some(title) => Ok(text.replacen(NO_TITLE, &format!("title: {title} |"), 1)),
        }
    }

    /// The instruction that a prompt stands for, in recipes that always have one: `own` unless the
    /// request or the checkpoint sets another.
    ///
    /// # Errors
    /// An unknown name.
    pub fn instruction<'a>(
        &'a self,
        prompt: &'a Prompt,
        own: &'a str,
    ) -> Result<&'a str, InputError> {
        Ok(self.asked(prompt)?.unwrap_or(own))
    }

    /// The instruction that a prompt stands for, in recipes that may have none.
    ///
    /// # Errors
    /// An unknown name.
    pub fn asked<'a>(&'a self, prompt: &'a Prompt) -> Result<Option<&'a str>, InputError> {
        Ok(match self.resolve(prompt)? {
            Resolved::Text("") | Resolved::Default | Resolved::None => None,
            Resolved::Text(text) | Resolved::Instruction(text) => Some(text),
        })
    }

    /// The text that a prompt prepends to an input.
    ///
    /// # Errors
    /// An unknown name.
    pub fn text(&self, prompt: &Prompt) -> Result<String, InputError> {
        Ok(match self.resolve(prompt)? {
            Resolved::Default | Resolved::None => String::new(),
            Resolved::Text(text) => text.to_owned(),
            Resolved::Instruction(text) => {
                let InstructionTemplate { before, after } = &self.template;
                format!("{before}{text}{after}")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_takes_the_place_of_none_in_the_prompt_for_documents() {
        let prompts = Prompts::default()
            .with("query", "task: search result | query: ")
            .with("document", "title: none | text: ");
        let titled = |prompt: &Prompt, title| prompts.titled(prompt, title);
        let document = Prompt::document();
        assert_eq!(titled(&document, None), Ok("title: none | text: ".into()));
        assert_eq!(
            titled(&document, Some("On none | $1")),
            Ok("title: On none | $1 | text: ".into())
        );
        for prompt in [Prompt::query(), Prompt::Default, Prompt::Instruction("seek".into())] {
            assert_eq!(titled(&prompt, Some("On")), Err(InputError::NoTitle));
        }
    }
}
