//! Renders chat templates as transformers does (`apply_chat_template`), within a step limit.
//!
//! Must not know: where a template comes from, what it contains.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value as JinjaValue, context};
use serde_json::Value;

/// Maximum number of steps of a template; published ones take a few hundred for a short chat.
const STEPS_MAX: u64 = 100_000;
/// The name of a template in its environment.
const NAME: &str = "chat";

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
}

/// What a template is given.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// A list of objects with a role and a content.
    pub messages: &'a Value,
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
    pub fn new(source: String) -> Result<Self, String> {
        let parsed = || -> Result<Self, Error> {
            let mut environment = Environment::new();
            let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
            environment.set_syntax(syntax);
            environment.set_fuel(Some(STEPS_MAX));
            // Methods of Python's strings, lists and dictionaries.
            environment
                .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
            environment.add_function("raise_exception", |problem: String| {
                Err::<String, _>(Error::new(ErrorKind::InvalidOperation, problem))
            });
            environment.add_template_owned(NAME, source)?;
            Ok(Self { environment })
        };
        parsed().map_err(|problem| problem.to_string())
    }

    /// The text of a chat.
    ///
    /// # Errors
    /// Why the template fails on it.
    pub fn render(&self, chat: &Chat<'_>) -> Result<String, String> {
        let &Chat { messages, add_generation_prompt, tokens } = chat;
        let own = context! {
            messages => Serde(messages),
            add_generation_prompt => add_generation_prompt,
            tools => None::<()>,
            documents => None::<()>,
        };
        let tokens = JinjaValue::from_pairs(tokens.clone());
        let template = self.environment.get_template(NAME);
        let rendered = template.and_then(|template| template.render(context! { ..own, ..tokens }));
        rendered.map_err(|problem| problem.to_string())
    }
}
