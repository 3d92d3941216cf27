//! Counterparts of other servers' flags and variables: one table, used to accept their flags, to
//! explain those that cannot be accepted, and to generate `docs/migrate.md`.
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

/// The counterpart of another server's flag or variable. Flags are named without leading dashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Here {
    /// The same flag.
    Same,
    /// A flag of another name; the foreign one is accepted as an alias.
    Alias(&'static str),
    /// A switch that corresponds to a flag with a value, and is accepted as such.
    Value(&'static str, &'static str),
    /// No counterpart. The text says what to do instead, so that nothing is silently ignored.
    Instead(&'static str),
}

/// Flags of another server with the same counterpart.
#[derive(Debug)]
struct Foreign {
    /// As that server spells them.
    flags: &'static [&'static str],
    here: Here,
    /// An additional note; may be empty.
    note: &'static str,
}

/// A variable of another server that has no flag there.
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
    /// How its defaults differ.
    defaults: &'static str,
    flags: &'static [Foreign],
    /// Prefix of the variables named after its flags; `None` if flags are not read from variables.
    prefix: Option<&'static str>,
    /// Its variables count only if one of these is set; empty if the prefix is distinctive.
    signs: &'static [&'static str],
    variables: &'static [Variable],
}

/// All other servers. A flag that several of them have means the same in each.
const SERVERS: [&Server; 3] = [&tei::SERVER, &infinity::SERVER, &vllm::SERVER];

const NO_SERVED_NAME: Here =
    Here::Instead("put the name before the model: --model NAME=ID; a model has one name");
const NO_CODE: Here = Here::Instead(
    "leave it out: code in checkpoints is never run, and a checkpoint that needs it is refused",
);
const NO_TRACES: Here = Here::Instead("leave it out: no traces are sent; see /metrics");
const NO_PATH_PREFIX: Here =
    Here::Instead("leave it out, and let the reverse proxy remove the prefix from paths");
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

/// Every flag of every server, without leading dashes.
#[cfg(test)]
pub fn flags() -> impl Iterator<Item = (String, Here)> {
    let foreign = SERVERS.iter().flat_map(|server| server.flags);
    foreign.flat_map(|foreign| {
        let names = foreign.flags.iter().map(|flag| flag.trim_start_matches('-').to_owned());
        names.map(|name| (name, foreign.here))
    })
}

/// Flags of other servers that are accepted under those names, and what each is here.
pub fn aliases() -> impl Iterator<Item = (&'static str, &'static str)> {
    let foreign = SERVERS.iter().flat_map(|server| server.flags);
    foreign.flat_map(|foreign| {
        let flag = match foreign.here {
            Here::Alias(flag) => Some(flag),
            _ => None,
        };
        let names = foreign.flags.iter().filter(|name| name.len() > 2);
        names.filter_map(move |name| Some((name.trim_start_matches('-'), flag?)))
    })
}

/// The counterpart of another server's flag, given in kebab case without leading dashes.
pub fn meaning(name: &str) -> Option<Here> {
    let mut foreign = SERVERS.iter().flat_map(|server| server.flags);
    let found = foreign.find(|foreign| {
        foreign.flags.iter().any(|flag| flag.trim_start_matches('-') == name && flag.len() > 2)
    });
    found.map(|foreign| foreign.here)
}

/// A command line with other servers' flags translated into ours.
///
/// # Errors
/// Usage errors: a flag without a counterpart, or a value for a switch.
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
            // Nothing after `--` is a flag.
            if is_end {
                break;
            }
        }
    }
    ours.extend(arguments);
    Ok(ours)
}

/// The translated argument, if it is a flag that differs here.
fn rewritten_flag(argument: &str) -> Result<Option<String>, CommandError> {
    let (written, value) = match argument.split_once('=') {
        Some((flag, value)) => (flag, Some(value)),
        None => (argument, None),
    };
    if !written.starts_with('-') {
        return Ok(None);
    }
    // Parts of a JSON value may be given separately, after a dot.
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
