//! Expands paths in variables as huggingface_hub does: Python's `os.path.expanduser`, then
//! `os.path.expandvars`.
//!
//! Must not know: which variable a path comes from.

use super::Environment;

/// Expands home folders and variables in a path. Unknown ones stay as they are.
pub fn path(text: &str, home: &str, environment: &Environment) -> String {
    variables(&user(text, home), environment)
}

/// Expands a leading `~` or `~name`.
fn user(text: &str, home: &str) -> String {
    let Some(after) = text.strip_prefix('~') else { return text.to_owned() };
    let (name, rest) = after.split_at(after.find('/').unwrap_or(after.len()));
    let home = match name {
        "" => Some(home.to_owned()),
        name => home_of(name),
    };
    match home {
        Some(home) => format!("{}{rest}", home.trim_end_matches('/')),
        None => text.to_owned(),
    }
}

/// The home folder of a local user.
fn home_of(name: &str) -> Option<String> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().map(|line| line.split(':').collect::<Vec<&str>>());
    let user = fields.find(|fields| fields[0] == name)?;
    user.get(5).map(|home| (*home).to_owned())
}

/// Expands `$name` and `${name}`, not recursively.
fn variables(text: &str, environment: &Environment) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        made.push_str(&rest[..at]);
        rest = &rest[at..];
        let (whole, name) = variable(rest);
        let value = environment.variables.get(name).map(String::as_str);
        made.push_str(value.unwrap_or(&rest[..whole]));
        rest = &rest[whole..];
    }
    made.push_str(rest);
    made
}

/// For a text that begins with `$`: the byte length of the variable reference, and its name.
fn variable(text: &str) -> (usize, &str) {
    if let Some(inner) = text.strip_prefix("${") {
        return match inner.find('}') {
            Some(end) => (end + 3, &inner[..end]),
            None => (1, ""),
        };
    }
    let name = &text[1..];
    let end = name.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(name.len());
    (end + 1, &name[..end])
}
