//! The flags of `serve` as clap knows them, and which of them an unknown name means.
//!
//! Must not know: what any setting does.

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args as _, Command};

use super::ServeArgs;
use super::migrate;

/// The flags of `serve` that are settings: all but those that say where settings are, and models
/// that are named without a flag.
pub fn flags() -> Vec<Arg> {
    let serve = ServeArgs::augment_args(Command::new("serve"));
    let flags = serve.get_arguments().filter(|argument| argument.get_long().is_some());
    flags.filter(|flag| flag.get_id() != "config").cloned().collect()
}

/// The name of a flag, without dashes before it.
pub fn name(flag: &Arg) -> &str {
    flag.get_long().unwrap_or_default()
}

/// Whether a flag may be given several times.
pub fn is_list(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Append)
}

/// What is said after an unknown name, or nothing: the flag that another server's flag of this name
/// is here, else the one that is spelt most alike. `written` writes a flag as names are written
/// where the unknown one was found.
pub fn hint(name: &str, written: impl Fn(&str) -> String) -> String {
    match migrate::meaning(name) {
        Some(migrate::Here::Same) | None => match alike(name) {
            Some(flag) => format!(": did you mean {}?", written(&flag)),
            None => String::new(),
        },
        Some(migrate::Here::Alias(flag)) => format!(": did you mean {}?", written(flag)),
        Some(migrate::Here::Value(flag, value)) => {
            format!(": did you mean {} with the value {value}?", written(flag))
        }
        Some(migrate::Here::Instead(sentence)) => format!(": {sentence}"),
    }
}

/// The flag that is spelt most alike, by the measure of messages about flags.
fn alike(name: &str) -> Option<String> {
    let command = Command::new("serve").no_binary_name(true).args(flags());
    let error = command.try_get_matches_from([format!("--{name}")]).err()?;
    match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(flag) => Some(flag.trim_start_matches('-').to_owned()),
        _ => None,
    }
}
