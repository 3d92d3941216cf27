//! The chat template of a reranker: which checkpoints have one that is applied, and what it writes.
//!
//! Must not know: tokens.

use std::collections::BTreeMap;

use minijinja::Value;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::input::InputError;
use crate::recipes::jinja::{Template, TemplateInput};
use crate::recipes::{chat_template, qwen3_reranker};

/// Whether sentence-transformers would put pairs into a template of this checkpoint, other than
/// that of Qwen3-Reranker, which has a recipe of its own.
pub fn is_applied(checkpoint: &Checkpoint) -> bool {
    let modules = checkpoint.sentence_transformers();
    if modules.is_some_and(|modules| modules.takes_messages == Some(false)) {
        return false;
    }
    let says = modules.is_some_and(|modules| modules.logit_score.is_some());
    let needs = says && modules.is_some_and(|modules| modules.takes_messages == Some(true));
    match (checkpoint.model_type(), chat_template::read(checkpoint)) {
        ("qwen3_vl", _) => false,
        ("qwen3", Ok((_, template))) => {
            template.is_some_and(|template| says && !qwen3_reranker::is_published(&template))
        }
        ("qwen3", Err(_)) => says,
        (_, Ok((_, template))) => needs || template.is_some(),
        // Loading reports the error.
        (_, Err(_)) => true,
    }
}

/// A template that writes a pair.
#[derive(Debug)]
pub struct ChatTemplate {
    template: Template,
    /// Whether a message's content is a list of parts.
    is_structured: bool,
    add_generation_prompt: bool,
    /// Whether a system turn, which has the instruction, changes what it writes.
    takes_system: bool,
    /// Special tokens by key.
    tokens: BTreeMap<String, String>,
}

impl ChatTemplate {
    /// The template of a checkpoint.
    ///
    /// # Errors
    /// One that cannot be read or rendered, or that leaves out the query or the document.
    pub fn of(
        checkpoint: &Checkpoint,
        tokens: BTreeMap<String, String>,
    ) -> Result<Self, CheckpointError> {
        let (path, source) = chat_template::read(checkpoint)?;
        let error = |problem: String| CheckpointError::new(&path, problem);
        let source = source.ok_or_else(|| error("there is no chat_template".into()))?;
        let modules = checkpoint.sentence_transformers();
        let format = modules.and_then(|modules| modules.message_format.as_deref());
        let is_structured = match format {
            Some("structured") => true,
            Some("flat") => false,
            _ => looks_structured(&source),
        };
        let add_generation_prompt = modules.is_some_and(|modules| modules.add_generation_prompt);
        let template = Template::new(&source).map_err(|problem| {
            error(format!("its chat_template cannot be read, and is needed: {problem}"))
        })?;
        let mut this =
            Self { template, is_structured, add_generation_prompt, takes_system: false, tokens };
        let plain = this.check().map_err(error)?;
        let with_system = this.render(Some("golf"), "alpha", "bravo");
        this.takes_system = with_system.is_ok_and(|chat| chat != plain);
        Ok(this)
    }

    /// A template that is built in.
    ///
    /// # Errors
    /// If it cannot be parsed.
    pub fn built_in(checkpoint: &Checkpoint, source: &str) -> Result<Self, CheckpointError> {
        let template = Template::new(source)
            .map_err(|problem| CheckpointError::new(checkpoint.dir(), problem))?;
        Ok(Self {
            template,
            is_structured: false,
            add_generation_prompt: false,
            takes_system: true,
            tokens: BTreeMap::new(),
        })
    }

    /// Whether an instruction changes what it writes.
    pub fn takes_system(&self) -> bool {
        self.takes_system
    }

    /// Checks that the text changes with the query and with the document, as sentence-transformers
    /// does. Returns the text of a pair.
    fn check(&self) -> Result<String, String> {
        let write = |query: &str, document: &str| {
            self.render(None, query, document).map_err(|problem| {
                format!("its chat_template fails on a query and a document: {problem}")
            })
        };
        let first = write("alpha", "bravo")?;
        for (role, other) in
            [("query", write("charlie", "bravo")?), ("document", write("alpha", "foxtrot")?)]
        {
            if first == other {
                return Err(format!(
                    "its chat_template leaves out the message with the role {role:?}, so it is not \
                     a template for pairs"
                ));
            }
        }
        Ok(first)
    }

    /// The chat of a pair.
    ///
    /// # Errors
    /// If the template fails on it.
    pub fn write(
        &self,
        system: Option<&str>,
        query: &str,
        document: &str,
    ) -> Result<String, InputError> {
        self.render(system, query, document).map_err(InputError::Tokenizer)
    }

    fn render(&self, system: Option<&str>, query: &str, document: &str) -> Result<String, String> {
        let message = |role: &str, text: &str| {
            let content = match self.is_structured {
                true => vec![Value::from_pairs([("type", "text"), ("text", text)])].into(),
                false => Value::from(text),
            };
            // Templates may list the keys, in this order.
            Value::from_pairs([("role", Value::from(role)), ("content", content)])
        };
        let pair = [message("query", query), message("document", document)];
        let bytes = query.len() + document.len() + system.map_or(0, str::len);
        let system = system.map(|text| message("system", text));
        let messages = system.into_iter().chain(pair).collect();
        let (add_generation_prompt, tokens) = (self.add_generation_prompt, &self.tokens);
        self.template.render(TemplateInput { messages, bytes, add_generation_prompt, tokens })
    }
}

/// Whether a template takes a message's content as a list of parts, by the words that
/// sentence-transformers looks for (`InputFormatter._infer_format`).
fn looks_structured(template: &str) -> bool {
    const WORDS: [&str; 6] =
        ["content[0]", ".type", "'type'", "\"type\"", "item.type", "message.content["];
    WORDS.iter().any(|word| template.contains(word))
}
