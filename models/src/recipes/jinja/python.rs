//! Overrides where minijinja differs from Jinja2 and Python: white space, JSON, which values are
//! sequences. Known differences without an override are removed, so templates that use them fail.
//!
//! Must not know: what a template contains.

use std::io;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, Value, escape_formatter,
};
use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Filters whose results differ from Jinja2's for some values.
const DIFFERENT: [&str; 7] = ["attr", "e", "escape", "indent", "pprint", "round", "title"];

/// Changes the functions of an environment to Python's.
pub fn install(environment: &mut Environment<'_>) {
    for name in DIFFERENT {
        environment.remove_filter(name);
    }
    environment.add_filter("trim", trim);
    environment.add_filter("tojson", to_json);
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Map)
    });
    environment.set_unknown_method_callback(method);
    environment.set_formatter(print);
}

/// Python's `str.isspace` of a character.
fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Jinja2's filter `trim`, which is Python's `str.strip`.
fn trim(state: &mut State<'_, '_>, value: &Value, chars: Option<Value>) -> Result<Value, Error> {
    let text = Value::from(value.to_string());
    let chars: Vec<Value> = chars.into_iter().collect();
    method(state, &text, "strip", &chars)
}

/// A method of Python's strings, lists and dictionaries.
fn method(
    state: &mut State<'_, '_>,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let others = minijinja_contrib::pycompat::unknown_method_callback;
    let Some(text) = value.as_str() else { return others(state, value, name, args) };
    let no_args = args.iter().all(Value::is_none);
    Ok(match name {
        "title" => return Err(Error::from(ErrorKind::UnknownMethod)),
        "isalnum" | "isalpha" | "isdigit" | "isnumeric" if !text.is_ascii() => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("{name} is supported for ASCII texts only"),
            ));
        }
        "strip" if no_args => text.trim_matches(is_space).into(),
        "lstrip" if no_args => text.trim_start_matches(is_space).into(),
        "rstrip" if no_args => text.trim_end_matches(is_space).into(),
        "isspace" if no_args => (!text.is_empty() && text.chars().all(is_space)).into(),
        "split" if no_args => text.split(is_space).filter(|part| !part.is_empty()).collect(),
        "split" if args[0].is_none() => {
            return Err(Error::new(
                ErrorKind::InvalidOperation,
                "split with a limit needs a separator",
            ));
        }
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(args)?;
            lines(text, keep_ends.unwrap_or(false)).into_iter().collect()
        }
        _ => return others(state, value, name, args),
    })
}

/// Whether Python's `str.splitlines` ends a line at a character.
fn ends_line(character: char) -> bool {
    let others = ['\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
    matches!(character, '\n' | '\r' | '\u{1c}'..='\u{1e}') || others.contains(&character)
}

/// Python's `str.splitlines`.
fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let (mut rest, mut lines) = (text, Vec::new());
    while let Some(end) = rest.find(ends_line) {
        let length = match &rest[end..] {
            end if end.starts_with("\r\n") => 2,
            end => end.chars().next().map_or(0, char::len_utf8),
        };
        lines.push(&rest[..if keep_ends { end + length } else { end }]);
        rest = &rest[end + length..];
    }
    lines.extend(Some(rest).filter(|rest| !rest.is_empty()));
    lines
}

/// transformers' filter `tojson`: Python's `json.dumps` with `ensure_ascii=False`.
fn to_json(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let error = |problem: String| Error::new(ErrorKind::InvalidOperation, problem);
    if kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false) {
        return Err(error("tojson with ensure_ascii is not supported".into()));
    }
    kwargs.assert_all_used()?;
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, Spaced))
        .map_err(|problem| error(problem.to_string()))?;
    String::from_utf8(bytes).map_err(|problem| error(problem.to_string()))
}

/// JSON with a space after each comma and colon, as Python writes it.
struct Spaced;

impl Spaced {
    fn comma<W: ?Sized + io::Write>(writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::comma(w, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::comma(w, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

/// Prints a value, unless Python would print it otherwise.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    let error = |problem| Err(Error::new(ErrorKind::InvalidOperation, problem));
    if !matches!(state.auto_escape(), AutoEscape::None) {
        return error("autoescape is not supported");
    }
    if value.kind() == ValueKind::Number && !value.is_integer() {
        let size = f64::try_from(value.clone()).map_or(0.0, f64::abs);
        if size != 0.0 && !(1e-4..1e16).contains(&size) {
            return error("a number this large or small is not printed as in Python");
        }
    }
    if matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return error("a list or an object is not printed as in Python; print what is in it");
    }
    escape_formatter(out, state, value)
}
