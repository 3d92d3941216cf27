//! Variables of other servers: none is read, but those of a migration are named, once.
//!
//! Must not know: what any setting does.

use super::super::Environment;
use super::{Here, SERVERS, Server};

/// Set in most environments, to something else; and those of the Hub, which are read.
const ELSEWHERE: [&str; 3] = ["HOSTNAME", "HF_TOKEN", "HUGGINGFACE_HUB_CACHE"];

/// A line that says which variables of other servers are set, and what to set in their place.
/// Values are never told: some are keys.
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

/// What to set in place of a variable; nothing if that is set.
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

/// The variables of a server that are not read here, and what they are.
pub(super) fn variables(server: &Server) -> Vec<(String, Here)> {
    let mut variables: Vec<(String, Here)> = Vec::new();
    for foreign in server.flags.iter().filter(|_| server.prefix.is_some()) {
        for flag in foreign.flags.iter().filter(|flag| flag.len() > 2) {
            let flag = flag.trim_start_matches('-');
            let name = format!("{}{}", server.prefix.unwrap_or_default(), variable(flag));
            // The flag of the same name has a variable of another.
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
