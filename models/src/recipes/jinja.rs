//! Renders chat templates as transformers does (`apply_chat_template`), within a step limit.
//!
//! Must not know: where a template comes from, what it contains.

mod python;

use std::borrow::Cow;
use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

/// Maximum number of steps of a template; published ones take a few hundred for a short chat.
const STEPS_MAX: u64 = 100_000;
/// Further steps for each byte of the messages' texts, for loops over words or lines.
const STEPS_PER_BYTE: u64 = 4;
/// Maximum number of further steps. A step may make 64 bytes, so this limits memory, too.
const FURTHER_STEPS_MAX: u64 = 4_000_000;
/// The name of a template in its environment.
const NAME: &str = "chat";

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
}

/// What a template is given.
#[derive(Debug, Clone)]
pub struct TemplateInput<'a> {
    /// Objects with a role and a content.
    pub messages: Vec<Value>,
    /// Length of the texts in them.
    pub bytes: usize,
    /// Whether the chat ends in the beginning of an answer.
    pub add_generation_prompt: bool,
    /// Special tokens by key, such as `bos_token`.
    pub tokens: &'a BTreeMap<String, String>,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// Why it cannot be parsed.
    pub fn new(source: &str) -> Result<Self, String> {
        // As Python reads files, and Jinja2 templates.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        Self::parsed(source).map_err(|problem| problem.to_string())
    }

    fn parsed(source: String) -> Result<Self, Error> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(STEPS_MAX));
        python::install(&mut environment);
        environment.add_function("raise_exception", |problem: String| {
            Err::<String, _>(Error::new(ErrorKind::InvalidOperation, problem))
        });
        environment.add_template_owned(NAME, source)?;
        Ok(Self { environment })
    }

    /// The text of a chat.
    ///
    /// # Errors
    /// Why the template fails on it.
    pub fn render(&self, chat: TemplateInput<'_>) -> Result<String, String> {
        let TemplateInput { messages, bytes, add_generation_prompt, tokens } = chat;
        let own = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            tools => None::<()>,
            documents => None::<()>,
        };
        let tokens = Value::from_pairs(tokens.clone());
        let more = (STEPS_PER_BYTE * bytes as u64).min(FURTHER_STEPS_MAX);
        let environment = match more > STEPS_MAX {
            false => Cow::Borrowed(&self.environment),
            true => {
                let mut environment = self.environment.clone();
                environment.set_fuel(Some(STEPS_MAX + more));
                Cow::Owned(environment)
            }
        };
        let template = environment.get_template(NAME);
        let rendered = template.and_then(|template| template.render(context! { ..own, ..tokens }));
        rendered.map_err(|problem| problem.to_string())
    }
}

#[cfg(test)]
mod tests;
