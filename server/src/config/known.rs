//! The flags of `serve` as clap knows them, and suggestions for unknown names.
//!
//! Must not know: what any setting does.

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Args as _, Command};

use super::ServeArgs;
use super::migrate;

/// The flags of `serve` that are settings: all but `--config` and the positional models.
pub fn flags() -> Vec<Arg> {
    let serve = ServeArgs::augment_args(Command::new("serve"));
    let flags = serve.get_arguments().filter(|argument| argument.get_long().is_some());
    flags.filter(|flag| flag.get_id() != "config").cloned().collect()
}

/// The name of a flag, without leading dashes.
pub fn name(flag: &Arg) -> &str {
    flag.get_long().unwrap_or_default()
}

/// Whether a flag may be given several times.
pub fn is_list(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Append)
}

/// The hint that follows an unknown name; may be empty. It names the counterpart of another
/// server's flag of that name, else the most similar flag. `written` formats a flag in the notation
/// of the unknown name.
pub fn hint(name: &str, written: impl Fn(&str) -> String) -> String {
    match migrate::meaning(name) {
        Some(migrate::Here::Same) | None => match most_similar(name) {
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

/// The flag meant by an unknown one whose name resembles another server's flag more than any of
/// `serve`.
pub fn meant_flag(name: &str) -> Option<&'static str> {
    match migrate::meaning(&similar(name)?)? {
        migrate::Here::Alias(flag) => Some(flag),
        _ => None,
    }
}

/// The most similar flag, by clap's own suggestions; it may be another server's.
fn similar(name: &str) -> Option<String> {
    let mut flags = flags();
    for (foreign, flag) in migrate::aliases() {
        let own = flags.iter_mut().find(|known| self::name(known) == flag);
        own.into_iter().for_each(|own| *own = own.clone().alias(foreign));
    }
    let command = Command::new("serve").no_binary_name(true).args(flags);
    let error = command.try_get_matches_from([format!("--{name}")]).err()?;
    match error.get(ContextKind::SuggestedArg)? {
        ContextValue::String(flag) => Some(flag.trim_start_matches('-').to_owned()),
        _ => None,
    }
}

/// The most similar flag of `serve`.
fn most_similar(name: &str) -> Option<String> {
    let flag = similar(name)?;
    match migrate::meaning(&flag) {
        Some(migrate::Here::Alias(own)) => Some(own.to_owned()),
        _ => Some(flag),
    }
}
