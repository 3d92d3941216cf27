//! An example settings file, generated from the flags: every key with its default.
//!
//! Must not know: what any setting does.

use std::any::TypeId;

use clap::Arg;

use super::known;

/// Ends a line whose value is an example because the default has no literal form.
pub const EXAMPLE: &str = "  # an example";
/// Width of a comment in columns.
const WIDTH: usize = 98;

const HEAD: &str = "\
# Every setting of `proxima serve`, for `proxima serve --config FILE`. Generated: `make docs`.
#
# Values are the defaults; where a default cannot be written down, they are examples and say so.
# Flags and PROXIMA_* variables override this file. Keys may be written with - or with _, and a
# list of one entry without brackets. Sizes are in bytes or like \"256MiB\", times in seconds or
# like \"2m\".
";

/// Values for keys whose default has no literal form.
const EXAMPLES: [(&str, &str); 16] = [
    ("model", "[\"sentence-transformers/all-MiniLM-L6-v2\"]"),
    ("max-length", "512"),
    ("gpu-memory-fraction", "0.9"),
    ("threads", "8"),
    ("grpc-port", "50051"),
    ("api-key", "[\"a secret\"]"),
    ("cors-allow-origin", "[\"https://app.example.com\"]"),
    ("allowed-host", "[\"embed.example.com\"]"),
    ("max-batch-tokens", "16384"),
    ("tokenization-threads", "8"),
    ("trusted-proxy", "[\"10.0.0.0/8\"]"),
    ("media-allow", "[\"images.example.com\"]"),
    ("max-image-pixels", "1048576"),
    ("media-cache-bytes", "\"256MiB\""),
    ("ffmpeg", "\"/usr/bin/ffmpeg\""),
    ("dtype", "\"bfloat16\""),
];

/// The example file.
pub fn example() -> String {
    let flags = known::flags();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for flag in &flags {
        if !headings.contains(&flag.get_help_heading()) {
            headings.push(flag.get_help_heading());
        }
    }
    let mut text = HEAD.to_owned();
    for heading in headings {
        if let Some(heading) = heading {
            text.push_str(&format!("\n## {heading}\n"));
        }
        for flag in flags.iter().filter(|flag| flag.get_help_heading() == heading) {
            text.push('\n');
            text.push_str(&setting(flag));
        }
    }
    text
}

/// A setting: its comment, and a line that sets it.
fn setting(flag: &Arg) -> String {
    let (name, help) = (known::name(flag), flag.get_help().cloned().unwrap_or_default());
    let mut lines = wrapped(&help.to_string());
    let line = match default(flag, &help.to_string()) {
        Some(value) => format!("#{name} = {value}"),
        // A model is required, so this line is not commented out.
        None if name == "model" => format!("{name} = {}", value(flag)),
        None => format!("#{name} = {}{EXAMPLE}", value(flag)),
    };
    lines.push(line);
    lines.join("\n") + "\n"
}

/// The default stated in a flag's help, if it is a literal value.
fn default(flag: &Arg, help: &str) -> Option<String> {
    if is_of::<bool>(flag) && !help.contains("[default: ") {
        return Some("false".into());
    }
    let (_, named) = help.split_once("[default: ")?;
    let value = named.split([',', ']']).next().unwrap_or_default();
    let is_value = !value.contains(' ') && value != "none" && !known::is_list(flag);
    let is_bare = value.parse::<f64>().is_ok() || ["true", "false"].contains(&value);
    is_value.then(|| if is_bare { value.to_owned() } else { format!("\"{value}\"") })
}

/// An example value that is not the default.
fn value(flag: &Arg) -> String {
    let examples = EXAMPLES.iter().find(|(name, _)| *name == known::name(flag));
    if let Some((_, value)) = examples {
        return (*value).to_owned();
    }
    if let Some(value) = flag.get_possible_values().first().filter(|_| !is_of::<bool>(flag)) {
        return format!("\"{}\"", value.get_name());
    }
    let is_text = is_of::<String>(flag) || is_of::<super::Bytes>(flag);
    match (known::is_list(flag), is_text) {
        (true, _) => "[]".into(),
        (false, true) => "\"0\"".into(),
        (false, false) => "1".into(),
    }
}

/// Whether a flag's values are of type `T`.
fn is_of<T: 'static>(flag: &Arg) -> bool {
    flag.get_value_parser().type_id() == TypeId::of::<T>()
}

/// Wraps text into comment lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one");
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(format!("# {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}
