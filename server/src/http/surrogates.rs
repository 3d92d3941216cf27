//! Lone surrogates in JSON: halves of the pairs by which UTF-16 encodes a character outside the
//! Basic Multilingual Plane. Python's `json` writes them if a text was cut in the middle of an
//! emoji, for example. UTF-8 cannot encode them, so no text of a request can contain one.
//!
//! Must not know: any dialect's bodies.

use std::fmt;

/// Nesting levels of a path that are remembered; a deeper path ends there.
const DEPTH_MAX: usize = 16;
/// Maximum characters shown of a path.
const PATH_MAX: usize = 80;

/// A lone surrogate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoneSurrogate {
    /// Its code point, between 0xD800 and 0xDFFF.
    number: u32,
    /// What contains it, in the terms of requests, such as `input 1`.
    name: Option<String>,
    /// The path of the string that contains it, such as `inputs[1].text`; for a key, that of its
    /// object.
    path: String,
    /// Whether it is in a key.
    in_key: bool,
}

impl fmt::Display for LoneSurrogate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, name, path, in_key } = self;
        match (in_key, name, path.as_str()) {
            (true, _, "") => f.write_str("a key of the body")?,
            (true, _, path) => write!(f, "a key in {path:.PATH_MAX$?}")?,
            (false, Some(name), path) => write!(f, "{name} (in {path:.PATH_MAX$?})")?,
            (false, None, "") => f.write_str("the body")?,
            (false, None, path) => write!(f, "the text at {path:.PATH_MAX$?}")?,
        }
        write!(f, " has a lone surrogate, U+{number:04X}: half of a character; ")?;
        f.write_str("it is not valid Unicode text")
    }
}

/// The lone surrogate in the string at which the parser stopped, if that is why it stopped.
pub fn at(json: &[u8], error: &serde_json::Error) -> Option<LoneSurrogate> {
    if !error.is_syntax() {
        return None;
    }
    let stop = offset(json, error.line(), error.column())?;
    let (mut path, mut at) = (Path::default(), 0);
    while at <= stop && at < json.len() {
        if json[at] != b'"' {
            path.see(json[at]);
            at += 1;
            continue;
        }
        let string = &json[at + 1..];
        let (length, number) = scan(string);
        let end = at + 1 + length;
        // The parser stops in a string, or right after it.
        if stop <= end + 1 {
            let (name, path, in_key) = (path.name(), path.written(), path.is_key());
            return number.map(|number| LoneSurrogate { number, name, path, in_key });
        }
        path.string(&string[..length]);
        at = end + 1;
    }
    None
}

/// The offset of a line and a column, both counted from 1, columns in bytes.
fn offset(json: &[u8], line: usize, column: usize) -> Option<usize> {
    let start = match line {
        0 => return None,
        1 => 0,
        line => {
            let breaks = json.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
            breaks.map(|(at, _)| at + 1).nth(line - 2)?
        }
    };
    start.checked_add(column)
}

/// The length of the string that begins here, without its quotes, and its first lone surrogate.
fn scan(string: &[u8]) -> (usize, Option<u32>) {
    let (mut at, mut found) = (0, None);
    while let Some(byte) = string.get(at) {
        at += match byte {
            b'"' => break,
            b'\\' => match escaped(&string[at..]) {
                Some(0xD800..=0xDBFF) if is_low(escaped(string.get(at + 6..).unwrap_or(&[]))) => 12,
                Some(number @ 0xD800..=0xDFFF) => {
                    found = found.or(Some(number));
                    6
                }
                Some(_) => 6,
                None => 2,
            },
            // In three bytes, as UTF-8 would encode it.
            0xED => match string.get(at + 1..at + 3) {
                Some([second @ 0xA0..=0xBF, third]) => {
                    let number = 0xD000 | u32::from(second & 0x3F) << 6 | u32::from(third & 0x3F);
                    found = found.or(Some(number));
                    3
                }
                _ => 1,
            },
            _ => 1,
        };
    }
    (at.min(string.len()), found)
}

/// The code unit of an escape like `\ud83d`.
fn escaped(text: &[u8]) -> Option<u32> {
    let [b'\\', b'u', digits @ ..] = text else { return None };
    let digits = std::str::from_utf8(digits.get(..4)?).ok()?;
    u32::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))
}

fn is_low(number: Option<u32>) -> bool {
    number.is_some_and(|number| (0xDC00..=0xDFFF).contains(&number))
}

/// The path from the root to a value.
#[derive(Debug, Default)]
struct Path {
    steps: Vec<PathStep>,
    /// Containers within the last step, which are not remembered.
    deeper: usize,
}

#[derive(Debug)]
enum PathStep {
    /// In an object: its last key, and whether what follows is the key's value.
    Key(String, bool),
    /// In an array.
    Index(usize),
}

impl Path {
    /// Takes a byte outside of strings.
    fn see(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' if self.deeper > 0 || self.steps.len() == DEPTH_MAX => self.deeper += 1,
            b'{' => self.steps.push(PathStep::Key(String::new(), false)),
            b'[' => self.steps.push(PathStep::Index(0)),
            b'}' | b']' if self.deeper > 0 => self.deeper -= 1,
            b'}' | b']' => drop(self.steps.pop()),
            b':' | b',' if self.deeper > 0 => {}
            b':' | b',' => match self.steps.last_mut() {
                Some(PathStep::Key(_, value)) => *value = byte == b':',
                Some(PathStep::Index(index)) => *index += usize::from(byte == b','),
                None => {}
            },
            _ => {}
        }
    }

    /// Takes a string, which may be a key.
    fn string(&mut self, text: &[u8]) {
        if let (0, Some(PathStep::Key(key, false))) = (self.deeper, self.steps.last_mut()) {
            *key = String::from_utf8_lossy(text).into_owned();
        }
    }

    /// Whether a string here is a key.
    fn is_key(&self) -> bool {
        self.deeper == 0 && matches!(self.steps.last(), Some(PathStep::Key(_, false)))
    }

    /// The path of a value; for a key, that of its object.
    fn written(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                PathStep::Key(_, false) => {}
                PathStep::Key(key, true) if path.is_empty() => path.push_str(key),
                PathStep::Key(key, true) => path.extend([".", key.as_str()]),
                PathStep::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// The input, query or document that a value is, or is part of, if any.
    fn name(&self) -> Option<String> {
        let (key, index) = match &self.steps[..] {
            [PathStep::Key(key, true), PathStep::Index(index), ..] => (key.as_str(), Some(*index)),
            [PathStep::Key(key, true), ..] => (key.as_str(), None),
            _ => return None,
        };
        let named = |what: &str| Some(format!("{what} {}", index.unwrap_or(0)));
        match key {
            "query" => Some("the query".to_owned()),
            "documents" | "text_2" | "data_2" | "items" => named("document"),
            "queries" | "text_1" | "data_1" => named("query"),
            // An object directly under `inputs` is not an input.
            "inputs" if index.is_none() && self.steps.len() > 1 => None,
            "inputs" | "input" | "texts" | "text" | "images" => named("input"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn found(json: &[u8]) -> Option<String> {
        let error = serde_json::from_slice::<Value>(json).expect_err("no JSON for UTF-8 readers");
        at(json, &error).map(|found| found.to_string())
    }

    #[test]
    fn a_lone_surrogate_is_named_with_its_inputs_index() {
        for (json, says) in [
            (r#"{"inputs": "a\ud83d"}"#, "input 0 (in \"inputs\") has a lone surrogate, U+D83D"),
            (r#"{"inputs": ["ok \ud83d\ude00", "\uDE00 x"]}"#, "input 1 (in \"inputs[1]\")"),
            (
                "{\"model\": \"a\",\n \"input\": [\"a\", \"b\",\n\"\\uD83Dx\"]}",
                "input 2 (in \"input[2]\")",
            ),
            (r#"{"input": "\ud83d\ud83d\ude00"}"#, "U+D83D"),
            (
                r#"{"documents": ["a", {"text": "\udfff"}], "query": "q"}"#,
                "document 1 (in \"documents[1].text\")",
            ),
            (r#"{"query": "\ud800\n", "documents": []}"#, "the query "),
            (r#"{"a": [{"b": [[1, 2], {"c": "x\\\ud800"}]}]}"#, "the text at \"a[0].b[1].c\""),
            (r#"["a", "\ud800"]"#, "the text at \"[1]\""),
            (r#""\ud800""#, "the body "),
            (r#"{"inputs": "a", "model": "\ud800"}"#, "the text at \"model\""),
            (r#"{"inputs": "a", "\ud800": 1}"#, "a key of the body "),
            (r#"{"documents": ["a", {"\ud800": 1}]}"#, "a key in \"documents[1]\""),
            (r#"{"a": {"b": 1, "\ud800": 1}}"#, "a key in \"a\""),
            (r#"{"inputs": {"sentences": ["\ud800"]}}"#, "the text at \"inputs.sentences[0]\""),
            (r#"{"messages": [[], [{"content": "\ud800"}]]}"#, "at \"messages[1][0].content\""),
            (r#"{"data_1": ["a", "\ud800"]}"#, "query 1 (in \"data_1[1]\")"),
        ] {
            let found = found(json.as_bytes()).unwrap_or_default();
            assert!(found.contains(says), "{json}: {found}");
        }
        let raw = found(b"{\"inputs\": [\"a\", \"b \xed\xa0\xbd and more\"]}").unwrap_or_default();
        assert!(raw.contains("input 1") && raw.contains("U+D83D"), "{raw}");
    }

    #[test]
    fn other_mistakes_are_not_taken_for_one() {
        for json in [
            &br#"{"inputs": "a"#[..],
            br#"{"inputs": ["\ud83d\ude00"], }"#,
            br#"{"inputs": "\q\ud83d"#,
            br#"{"inputs": "\u00"}"#,
            b"{\"inputs\": \"\xff\"}",
            b"{\"inputs\": \"\xed\x9f\xbf\x80\"}",
            b"",
            b"[[[",
        ] {
            let found = found(json);
            assert!(found.is_none() || json.starts_with(br#"{"inputs": "\q"#), "{found:?}");
        }
        // A lone surrogate that the parser passed over is not why it stopped later.
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code, reason = "only read")]
        struct Body {
            input: String,
        }
        let json = br#"{"ignored": ["\ud83d"], "input": "a" x}"#;
        let error = serde_json::from_slice::<Body>(json).expect_err("no JSON");
        assert_eq!(at(json, &error), None);
    }

    #[test]
    fn deep_containers_take_no_memory() {
        let json = format!("{{\"a\": {}", "[".repeat(100_000));
        assert_eq!(found(json.as_bytes()), None);
    }
}
