//! What flags and variables of other servers are here: one table, by which their flags are taken,
//! by which what cannot be taken is explained, and of which `docs/migrate.md` is made.
//!
//! Must not know: what any setting does.

mod infinity;
mod page;
mod tei;
mod variables;
mod vllm;

use std::ffi::OsString;

use crate::command::CommandError;
pub use page::page;
pub use variables::notice;

/// What a flag or variable of another server is here. Flags are named without dashes before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    /// The same flag.
    Same,
    /// A flag of another name, for which it is taken.
    Alias(&'static str),
    /// A switch that is a flag with a value, for which it is taken.
    Value(&'static str, &'static str),
    /// No flag. What to do instead is said, so that nothing is ignored in silence.
    Instead(&'static str),
}

/// Flags of another server that are the same here.
#[derive(Debug)]
struct Foreign {
    /// As they are written there.
    flags: &'static [&'static str],
    here: Here,
    /// What is to know besides; may be empty.
    note: &'static str,
}

/// A variable of another server for which it has no flag.
#[derive(Debug)]
struct Variable {
    name: &'static str,
    here: Here,
}

/// Another server.
#[derive(Debug)]
struct Server {
    name: &'static str,
    /// Its command.
    command: &'static str,
    /// Where its defaults are others.
    defaults: &'static str,
    flags: &'static [Foreign],
    /// What its flags' names as variables begin with; `None` if flags are not read from variables.
    prefix: Option<&'static str>,
    /// Variables of which one must be set for the others to be its; none if the prefix tells.
    signs: &'static [&'static str],
    variables: &'static [Variable],
}

/// All of them. A flag that several have means the same in each.
const SERVERS: [&Server; 3] = [&tei::SERVER, &infinity::SERVER, &vllm::SERVER];

const NO_SERVED_NAME: Here =
    Here::Instead("put the name before the model: --model NAME=ID; a model has one name");
const NO_CODE: Here =
    Here::Instead("leave it out: no code of checkpoints is run, and one that needs it is refused");
const NO_TRACES: Here = Here::Instead("leave it out: no traces are sent; see /metrics");
const NO_PATH_PREFIX: Here =
    Here::Instead("leave it out, and let the proxy in front take the prefix off the paths");
const ON_ANYHOW: Here =
    Here::Instead("leave it out: there is nothing to compile, and nothing to choose");

const fn same(flags: &'static [&'static str], note: &'static str) -> Foreign {
    Foreign { flags, here: Here::Same, note }
}

const fn alias(flags: &'static [&'static str], flag: &'static str, note: &'static str) -> Foreign {
    Foreign { flags, here: Here::Alias(flag), note }
}

const fn value(flags: &'static [&'static str], flag: &'static str, value: &'static str) -> Foreign {
    Foreign { flags, here: Here::Value(flag, value), note: "" }
}

const fn instead(flags: &'static [&'static str], sentence: &'static str) -> Foreign {
    Foreign { flags, here: Here::Instead(sentence), note: "" }
}

const fn none(flags: &'static [&'static str], here: Here) -> Foreign {
    Foreign { flags, here, note: "" }
}

/// Every flag of every server, without dashes before it.
#[cfg(test)]
pub fn flags() -> impl Iterator<Item = (String, Here)> {
    let foreign = SERVERS.iter().flat_map(|server| server.flags);
    foreign.flat_map(|foreign| {
        let names = foreign.flags.iter().map(|flag| flag.trim_start_matches('-').to_owned());
        names.map(|name| (name, foreign.here))
    })
}

/// What a flag of another server is here; its name without dashes before it, words separated by
/// dashes.
pub fn meaning(name: &str) -> Option<Here> {
    let mut foreign = SERVERS.iter().flat_map(|server| server.flags);
    let found = foreign.find(|foreign| {
        foreign.flags.iter().any(|flag| flag.trim_start_matches('-') == name && flag.len() > 2)
    });
    found.map(|foreign| foreign.here)
}

/// A command line with the flags of other servers as ours.
///
/// # Errors
/// Usage errors: a flag that has no counterpart here.
pub fn rewritten(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Vec<OsString>, CommandError> {
    let mut arguments = arguments.into_iter();
    let mut ours: Vec<OsString> = arguments.by_ref().take(2).collect();
    if ours.get(1).is_some_and(|command| command == "serve") {
        for argument in arguments.by_ref() {
            let rewritten = argument.to_str().map(rewritten_flag).transpose()?.flatten();
            let is_end = argument == "--";
            ours.push(rewritten.map_or(argument, OsString::from));
            // Nothing behind this is a flag.
            if is_end {
                break;
            }
        }
    }
    ours.extend(arguments);
    Ok(ours)
}

/// An argument as ours, if it is a flag that is another here.
fn rewritten_flag(argument: &str) -> Result<Option<String>, CommandError> {
    let (written, value) = match argument.split_once('=') {
        Some((flag, value)) => (flag, Some(value)),
        None => (argument, None),
    };
    if !written.starts_with('-') {
        return Ok(None);
    }
    // Parts of a JSON value may be given one by one, behind a dot.
    let whole = written.replace('_', "-");
    let flag = whole.split('.').next().unwrap_or_default();
    let mut foreign = SERVERS.iter().flat_map(|server| server.flags);
    let here = foreign.find(|foreign| foreign.flags.contains(&flag)).map(|foreign| foreign.here);
    let ours = match here {
        Some(Here::Alias(ours)) => format!("--{ours}"),
        Some(Here::Value(ours, given)) if value.is_none() => {
            return Ok(Some(format!("--{ours}={given}")));
        }
        Some(Here::Value(ours, given)) => {
            let message = format!("{written} takes no value here; it is --{ours} {given}");
            return Err(CommandError::usage(message));
        }
        Some(Here::Instead(sentence)) => {
            return Err(CommandError::usage(format!("there is no {written}: {sentence}")));
        }
        Some(Here::Same) | None => whole,
    };
    Ok(Some(value.map_or(ours.clone(), |value| format!("{ours}={value}"))))
}
