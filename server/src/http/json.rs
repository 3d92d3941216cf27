//! Parses JSON bodies.
//!
//! Must not know: any dialect's bodies.

use axum::body::Bytes;
use serde::de::DeserializeOwned;

use super::{Failure, surrogates};

/// Bytes of JSON above which parsing or serializing it moves to another thread.
pub const OFF_LOOP_BYTES: usize = 256 * 1024;
/// Maximum number of strings (including keys), arrays and objects of a body. When parsed, the
/// smallest takes a hundred times its bytes in JSON, so their number has a limit of its own; JSON
/// numbers need none.
const VALUES_MAX: usize = 256 * 1024;
/// The byte order mark that some programs put before UTF-8; RFC 8259 (8.1) lets parsers ignore it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses the JSON of a body, on another thread if it is large.
///
/// # Errors
/// If it is not the expected JSON.
pub async fn parse_body<T: DeserializeOwned + Send + 'static>(bytes: Bytes) -> Result<T, Failure> {
    if bytes.len() > OFF_LOOP_BYTES {
        tokio::task::spawn_blocking(move || parse(&bytes)).await.unwrap_or(Err(Failure::Bug))
    } else {
        parse(&bytes)
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let json = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    if has_too_many_values(json) {
        return Err(Failure::body(format!(
            "the request body has more than {VALUES_MAX} strings, lists and objects; send several \
             requests"
        )));
    }
    serde_json::from_slice(json).map_err(|error| match surrogates::at(json, &error) {
        // It is JSON, but not valid Unicode text.
        Some(found) => Failure::body(found.to_string()),
        None => Failure::Body {
            message: format!(
                "the request body is not the expected JSON: {}",
                in_words(&error.to_string())
            ),
            syntax: !error.is_data(),
        },
    })
}

/// A message of the parser, with JSON's terms in place of Rust's type names.
fn in_words(message: &str) -> String {
    const EXPECTED: [(&str, &str); 8] = [
        ("usize", "a whole number of at least 0"),
        ("u64", "a whole number of at least 0"),
        ("u32", "a whole number from 0 to 4294967295"),
        ("u16", "a whole number from 0 to 65535"),
        ("f32", "a number"),
        ("f64", "a number"),
        ("a sequence", "a list"),
        ("a map", "an object"),
    ];
    const FOUND: [(&str, &str); 2] = [
        ("invalid type: sequence,", "invalid type: list,"),
        ("invalid type: map,", "invalid type: object,"),
    ];
    let found =
        FOUND.iter().find_map(|(from, to)| Some([to, message.strip_prefix(from)?].concat()));
    let message = found.unwrap_or_else(|| message.to_owned());
    // What the client sent comes before it.
    let Some((before, expected)) = message.rsplit_once(", expected ") else { return message };
    let known = EXPECTED.iter().find_map(|(from, to)| {
        let rest = expected.strip_prefix(from)?;
        (rest.is_empty() || rest.starts_with(' ')).then(|| [to, rest].concat())
    });
    known.map_or_else(|| message.clone(), |known| format!("{before}, expected {known}"))
}

/// Whether there are more than [`VALUES_MAX`] strings, arrays and objects, found before anything is
/// parsed. Invalid JSON is left to the parser.
fn has_too_many_values(json: &[u8]) -> bool {
    // Each takes at least two bytes.
    if json.len() / 2 <= VALUES_MAX {
        return false;
    }
    let (mut count, mut at) = (0, 0);
    while let Some(byte) = json.get(at) {
        count += usize::from(matches!(byte, b'"' | b'[' | b'{'));
        at = if *byte == b'"' { end_of_string(json, at + 1) } else { at + 1 };
        if count > VALUES_MAX {
            return true;
        }
    }
    false
}

/// The index after the closing quote of a string whose text begins at `at`.
fn end_of_string(json: &[u8], mut at: usize) -> usize {
    while let Some(next) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if json[at + next] == b'"' {
            return at + next + 1;
        }
        // An escaped character does not end the string.
        at += next + 2;
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn is_read(json: &str) -> bool {
        match parse::<Value>(json.as_bytes()) {
            Ok(_) => true,
            Err(failure) => {
                assert!(failure.to_string().contains("strings, lists and objects"), "{failure}");
                false
            }
        }
    }

    fn list(of: &str, count: usize) -> String {
        format!("[{}]", vec![of; count].join(","))
    }

    #[test]
    fn as_many_values_as_may_be_are_read_and_no_more() {
        for value in ["\"\"", "{}", "[]", "\"a \\\" b [[[{{{\""] {
            assert!(is_read(&list(value, VALUES_MAX - 1)), "{value}");
            assert!(!is_read(&list(value, VALUES_MAX)), "{value}");
        }
        assert!(!is_read(&list("{\"\":0}", VALUES_MAX / 2)));
    }

    #[test]
    fn what_is_expected_is_said_in_words_of_json() {
        #[derive(Debug, serde::Deserialize)]
        #[allow(dead_code, reason = "only reading it counts")]
        struct Body {
            count: Option<usize>,
            ids: Option<Vec<u32>>,
        }
        for (json, words) in [
            (r#"{"count": -1}"#, "integer `-1`, expected a whole number of at least 0 at line 1"),
            (r#"{"count": "x, expected u32 y"}"#, "expected u32 y\", expected a whole number of"),
            (r#"{"ids": [4294967296]}"#, "expected a whole number from 0 to 4294967295 at"),
            (r#"{"ids": {}}"#, "invalid type: object, expected a list at"),
            (r#"{"count": []}"#, "invalid type: list, expected a whole number"),
        ] {
            let failure = parse::<Body>(json.as_bytes()).expect_err(json).to_string();
            assert!(failure.contains(words), "{failure}");
        }
    }

    #[test]
    fn texts_and_numbers_are_not_counted_by_what_is_in_them() {
        assert!(is_read(&list("1", 3 * VALUES_MAX)));
        assert!(is_read(&format!("[\"{}\"]", "[{\\\\\\\"".repeat(VALUES_MAX))));
    }

    #[test]
    fn a_string_that_does_not_end_is_no_json() {
        let open = format!("[\"{}", "\\".repeat(3 * VALUES_MAX + 1));
        let failure = parse::<Value>(open.as_bytes()).expect_err("it does not end");
        assert!(matches!(failure, Failure::Body { syntax: true, .. }), "{failure}");
    }
}
