//! How each key of a checkpoint's configuration files is handled: tables, and the check of files
//! against them.
//!
//! Each known key is read by the code, does not change results (with the reason), or is refused if
//! its value is not what the code computes. A key in no table gives a [`Warning`]. Tables of
//! `config.json` are next to their family; [`config`] has what all families share, and [`files`]
//! the tables of all other files.
//!
//! Must not know: what a family computes, tensors.

pub mod config;
pub mod files;

use std::fmt;
use std::path::Path;

use serde_json::{Map, Value};

use super::CheckpointError;

/// A key and how it is handled.
pub type Key = (&'static str, Rule);

/// How a key is handled.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// The loading code reads it and checks its value.
    Used,
    /// It does not change results; why.
    NoEffect(&'static str),
    /// The loading code reads this integer, which must be between the two, inclusive. Null counts
    /// as absent.
    Count(u64, u64),
    /// As `Count`, but null is refused.
    Size(u64, u64),
    /// The loading code reads this number, which must be between the two, inclusive. Null is
    /// refused.
    Number(f64, f64),
    /// The code computes only what these values mean. Null counts as absent.
    Only(&'static [Is]),
    /// As `Only`, but null is refused: it would switch a step off, or is an error.
    Fixed(&'static [Is]),
    /// As `Fixed`, and the key must be present: the reference's default is a different value.
    Needed(&'static [Is]),
    /// Only null, false, zero or an empty value is served; why.
    Refused(&'static str),
    /// An object with its own keys. Null counts as absent.
    Object(&'static [&'static [Key]]),
    /// As `Object`, but unknown keys are refused: for arguments of the reference's functions, any
    /// of which may change results.
    Closed(&'static [&'static [Key]]),
}

/// A value that a key may have.
#[derive(Debug, Clone, Copy)]
pub enum Is {
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(&'static str),
    /// A list of three times this number.
    Thrice(f64),
}

/// Something about a checkpoint's files that its operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A key in no table: what it asks for, if anything, is not done.
    UnknownKey {
        /// The file, relative to the checkpoint's folder.
        file: String,
        /// The key, preceded by those of the objects that contain it.
        key: String,
    },
    /// Tensors that nothing reads.
    UnusedTensors {
        /// Some of their names.
        names: Vec<String>,
        /// How many there are in all.
        count: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { file, key } => {
                write!(f, "{file}: key {key} is unknown and ignored")
            }
            Self::UnusedTensors { names, count } => {
                let more = if *count > names.len() { ", ..." } else { "" };
                write!(f, "{count} tensors are not used: {}{more}", names.join(", "))
            }
        }
    }
}

/// A configuration file to check.
#[derive(Debug, Clone, Copy)]
pub struct ConfigFile<'a> {
    /// The checkpoint's folder.
    pub dir: &'a Path,
    /// The file.
    pub path: &'a Path,
}

/// The tables of an object's keys.
#[derive(Debug, Clone, Copy)]
struct Tables<'a> {
    keys: &'a [&'a [Key]],
    /// Whether a key in none of them is refused.
    closed: bool,
}

impl ConfigFile<'_> {
    /// Checks a file's content against the tables of its keys; adds a warning for each key in none
    /// of them.
    ///
    /// # Errors
    /// A value that is out of bounds or not what the code computes; the error names the key.
    /// Content that is not an object.
    pub fn check(
        &self,
        content: &Value,
        tables: &[&[Key]],
        warnings: &mut Vec<Warning>,
    ) -> Result<(), CheckpointError> {
        let Value::Object(keys) = content else {
            return Err(CheckpointError::new(self.path, "it is not a JSON object"));
        };
        self.check_keys("", keys, Tables { keys: tables, closed: false }, warnings)
    }

    /// Checks the keys of an object; `within` is the object's name followed by a dot.
    fn check_keys(
        &self,
        within: &str,
        keys: &Map<String, Value>,
        tables: Tables<'_>,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), CheckpointError> {
        for (key, rule) in tables.keys.iter().copied().flatten() {
            if let Rule::Needed(values) = rule
                && !keys.contains_key(*key)
            {
                let problem = format!(
                    "{within}{key} is absent, and its default is not {}, the only supported value",
                    any_of(values)
                );
                return Err(CheckpointError::new(self.path, problem));
            }
        }
        for (key, value) in keys {
            let name = format!("{within}{key}");
            match tables.keys.iter().copied().flatten().find(|(known, _)| known == key) {
                Some((_, rule)) => self.check_value(&name, value, rule, warnings)?,
                None if tables.closed => {
                    return Err(self.refused(&name, value, "unknown argument"));
                }
                None => {
                    let file = self.path.strip_prefix(self.dir).unwrap_or(self.path);
                    let file = file.to_string_lossy().into_owned();
                    warnings.push(Warning::UnknownKey { file, key: name });
                }
            }
        }
        Ok(())
    }

    fn check_value(
        &self,
        name: &str,
        value: &Value,
        rule: &Rule,
        warnings: &mut Vec<Warning>,
    ) -> Result<(), CheckpointError> {
        let wrong = |why: &str| Err(self.refused(name, value, why));
        match (rule, value) {
            (Rule::Used | Rule::NoEffect(_), _) => Ok(()),
            (Rule::Refused(_), value) if is_nothing(value) => Ok(()),
            (Rule::Refused(why), _) => wrong(why),
            (rule, Value::Null) if !refuses_null(rule) => Ok(()),
            (Rule::Count(least, most) | Rule::Size(least, most), value) => match value.as_u64() {
                Some(count) if (*least..=*most).contains(&count) => Ok(()),
                _ => wrong(&format!("it must be a whole number from {least} to {most}")),
            },
            (Rule::Number(least, most), value) => match value.as_f64() {
                Some(number) if (*least..=*most).contains(&number) => Ok(()),
                _ => wrong(&format!("it must be a number from {least} to {most}")),
            },
            (Rule::Only(values) | Rule::Fixed(values) | Rule::Needed(values), value) => {
                if values.iter().any(|allowed| allowed.is(value)) {
                    return Ok(());
                }
                wrong(&format!("only {} is supported", any_of(values)))
            }
            (Rule::Object(tables) | Rule::Closed(tables), Value::Object(keys)) => {
                let tables = Tables { keys: tables, closed: matches!(rule, Rule::Closed(_)) };
                self.check_keys(&format!("{name}."), keys, tables, warnings)
            }
            (Rule::Object(_) | Rule::Closed(_), _) => wrong("it must be an object"),
        }
    }

    fn refused(&self, name: &str, value: &Value, why: &str) -> CheckpointError {
        /// Maximum number of characters of a value in a message.
        const SHOWN: usize = 80;
        let mut shown: String = value.to_string().chars().take(SHOWN + 1).collect();
        if shown.chars().count() > SHOWN {
            shown.pop();
            shown.push_str("...");
        }
        CheckpointError::new(self.path, format!("{name} is {shown}: {why}"))
    }
}

impl Is {
    fn is(&self, value: &Value) -> bool {
        let is = |value: &Value, number: f64| {
            value.as_f64().is_some_and(|found| (found - number).abs() <= number.abs() * 1e-9)
        };
        match self {
            Self::Bool(wanted) => value.as_bool() == Some(*wanted),
            Self::Number(wanted) => is(value, *wanted),
            Self::Text(wanted) => value.as_str() == Some(*wanted),
            Self::Thrice(wanted) => value
                .as_array()
                .is_some_and(|all| all.len() == 3 && all.iter().all(|value| is(value, *wanted))),
        }
    }
}

impl fmt::Display for Is {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::Thrice(value) => write!(f, "[{value}, {value}, {value}]"),
        }
    }
}

fn refuses_null(rule: &Rule) -> bool {
    matches!(rule, Rule::Size(..) | Rule::Number(..) | Rule::Fixed(_) | Rule::Needed(_))
}

fn any_of(values: &[Is]) -> String {
    let values: Vec<String> = values.iter().map(Is::to_string).collect();
    values.join(" or ")
}

/// Whether a value is null, false, zero or empty.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(keys) => keys.is_empty(),
    }
}

#[cfg(test)]
mod tests;
