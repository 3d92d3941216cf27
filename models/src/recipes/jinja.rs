//! Renders a chat template as transformers does (`apply_chat_template`), within a step limit.
//!
//! Must not know: where a template comes from, what it contains.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, context};
use serde_json::Value;

/// Maximum number of steps of a template; published ones take a few hundred for a short chat.
const STEPS_MAX: u64 = 100_000;

/// The chat of these messages, ending in the generation prompt.
///
/// # Errors
/// Why the template cannot be parsed, or fails on these messages.
pub fn render(template: &str, messages: &Value) -> Result<String, String> {
    let rendered = try_render(template, messages);
    rendered.map_err(|problem| problem.to_string())
}

fn try_render(template: &str, messages: &Value) -> Result<String, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_fuel(Some(STEPS_MAX));
    environment.add_function("raise_exception", |problem: String| {
        Err::<String, _>(Error::new(ErrorKind::InvalidOperation, problem))
    });
    let messages = Serde(messages);
    environment
        .template_from_str(template)?
        .render(context! { messages, add_generation_prompt => true })
}
