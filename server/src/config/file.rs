//! A TOML settings file: accepted spellings of keys, and errors for unknown ones.
//!
//! Must not know: what any setting does.

use std::borrow::Cow;
use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::ServeArgs;
use super::known;
use crate::command::CommandError;

/// The settings of a file.
///
/// # Errors
/// Usage errors: the file cannot be read, is not TOML, or has an invalid key or value.
pub fn read(path: &Path) -> Result<ServeArgs, CommandError> {
    let wrong = |problem: String| CommandError::usage(format!("{}: {problem}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    parse(&text).map_err(wrong)
}

/// The settings of a file's text.
///
/// # Errors
/// The text is not TOML, or has an invalid key or value.
pub fn parse(text: &str) -> Result<ServeArgs, String> {
    let in_text = |mut error: toml::de::Error| {
        error.set_input(Some(text));
        error.to_string().trim_end().to_owned()
    };
    let table = DeTable::parse(text).map_err(in_text)?;
    let span = table.span();
    let settings = Spanned::new(span, with_our_keys(table.into_inner(), text)?);
    ServeArgs::deserialize(Deserializer::from(settings)).map_err(in_text)
}

/// A table with normalised keys, and lists where lists are expected.
fn with_our_keys<'i>(table: DeTable<'i>, text: &str) -> Result<DeTable<'i>, String> {
    let flags = known::flags();
    let mut ours = DeTable::new();
    for (key, value) in table {
        let name = key.get_ref().replace('_', "-");
        let at = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
        let line = at(key.span().start);
        let Some(flag) = flags.iter().find(|flag| known::name(flag) == name) else {
            let hint = known::hint(&name, |flag| format!("`{flag}`"));
            return Err(format!("line {line}: unknown key `{}`{hint}", key.get_ref()));
        };
        let value = if known::is_list(flag) { list(value) } else { value };
        let key = Spanned::new(key.span(), Cow::Owned(name.clone()));
        if let Some((other, _)) = ours.get_key_value(&*name) {
            let lines = [at(other.span().start), line];
            let (first, second) = (lines[0].min(lines[1]), lines[0].max(lines[1]));
            return Err(format!(
                "lines {first} and {second}: `{name}` is given twice, once with _"
            ));
        }
        ours.insert(key, value);
    }
    Ok(ours)
}

/// Turns a string into a list of one; other values are unchanged.
fn list(value: Spanned<DeValue<'_>>) -> Spanned<DeValue<'_>> {
    if !matches!(value.get_ref(), DeValue::String(_)) {
        return value;
    }
    let span = value.span();
    let mut list = DeArray::new();
    list.push(value);
    Spanned::new(span, DeValue::Array(list))
}
