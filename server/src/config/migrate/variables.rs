//! Variables of other servers: none is read; those left over from a migration are reported, once.
//!
//! Must not know: what any setting does.

use super::super::Environment;
use super::{Here, SERVERS, Server};

/// Not reported: set in most environments for other purposes, or read as variables of the Hub.
const ELSEWHERE: [&str; 3] = ["HOSTNAME", "HF_TOKEN", "HUGGINGFACE_HUB_CACHE"];

/// A line that lists which variables of other servers are set, and what to set instead. It never
/// includes values: some are keys.
pub fn notice(environment: &Environment) -> Option<String> {
    let mut named: Vec<String> = Vec::new();
    for server in SERVERS {
        for (name, here) in variables(server) {
            if environment.get(&name).is_some() && is_of_server(server, environment) {
                named.extend(advice(&name, here, environment));
            }
        }
    }
    let named = named.join("; ");
    (!named.is_empty()).then(|| format!("variables of other servers are not read: {named}"))
}

/// What to set instead of a variable; `None` if nothing needs to be set.
fn advice(name: &str, here: Here, environment: &Environment) -> Option<String> {
    let ours = |flag: &str| format!("PROXIMA_{}", variable(flag));
    let (ours, value) = match here {
        Here::Same => return None,
        Here::Alias(flag) => (ours(flag), String::new()),
        Here::Value(flag, value) if environment.is_on(name) => (ours(flag), format!("={value}")),
        Here::Value(..) => return None,
        Here::Instead(sentence) => return Some(format!("{name} ({sentence})")),
    };
    let unset = environment.get(&ours).is_none();
    unset.then(|| format!("{name} (set {ours}{value})"))
}

/// Whether a server's variables are meant for it.
fn is_of_server(server: &Server, environment: &Environment) -> bool {
    server.signs.is_empty() || server.signs.iter().any(|sign| environment.get(sign).is_some())
}

/// A server's variables that are not read here, and their counterparts.
pub(super) fn variables(server: &Server) -> Vec<(String, Here)> {
    let mut variables: Vec<(String, Here)> = Vec::new();
    for foreign in server.flags.iter().filter(|_| server.prefix.is_some()) {
        for flag in foreign.flags.iter().filter(|flag| flag.len() > 2) {
            let flag = flag.trim_start_matches('-');
            let name = format!("{}{}", server.prefix.unwrap_or_default(), variable(flag));
            // A flag of the same name still has a differently named variable.
            let here = match foreign.here {
                Here::Same => Here::Alias(flag),
                here => here,
            };
            variables.push((name, here));
        }
    }
    variables.retain(|(name, _)| !ELSEWHERE.contains(&&**name));
    variables.extend(server.variables.iter().map(|other| (other.name.to_owned(), other.here)));
    variables
}

fn variable(flag: &str) -> String {
    flag.to_uppercase().replace('-', "_")
}
