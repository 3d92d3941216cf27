//! Records of a file of texts: a text a line, JSON Lines, or CSV.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use clap::ValueEnum;
use indicatif::ProgressBar;
use serde_json::Value;

use crate::cli::CommandError;

/// How texts lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// A text a line
    Text,
    /// A JSON object or string a line
    Jsonl,
    /// Comma-separated, with a header
    Csv,
}

impl InputFormat {
    /// The format that a file's name tells.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson") => Self::Jsonl,
            Some("csv") => Self::Csv,
            _ => Self::Text,
        }
    }
}

/// One text.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its line in the file, from 1.
    pub line: u64,
    /// Its `id`, if it has one.
    pub id: Option<Value>,
    /// The text.
    pub text: String,
}

type Records = Box<dyn Iterator<Item = Result<Record, CommandError>>>;

/// The records of a file.
pub struct Reader {
    records: Records,
    /// Shows how far the file is read.
    pub bar: ProgressBar,
}

impl Iterator for Reader {
    type Item = Result<Record, CommandError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.records.next()
    }
}

/// Opens a file, or standard input for `-`.
///
/// # Errors
/// A file that cannot be opened, or a CSV without the column.
pub fn open(
    path: &Path,
    format: InputFormat,
    field: &str,
    bar: &ProgressBar,
) -> Result<Reader, CommandError> {
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let file = File::open(path);
        Box::new(file.map_err(|error| failed(&format!("{}: {error}", path.display())))?)
    };
    let source = bar.wrap_read(source);
    let records: Records = match format {
        InputFormat::Text => Box::new(
            lines(source).map(|line| line.map(|(line, text)| Record { line, id: None, text })),
        ),
        InputFormat::Jsonl => {
            let field = field.to_owned();
            let filled = |line: &Result<(u64, String), _>| {
                line.as_ref().map_or(true, |(_, text)| !text.trim().is_empty())
            };
            let parse = move |line: Result<(u64, String), CommandError>| {
                line.and_then(|(line, text)| json_record(line, &text, &field))
            };
            Box::new(lines(source).filter(filled).map(parse))
        }
        InputFormat::Csv => csv_records(source, field)?,
    };
    Ok(Reader { records, bar: bar.clone() })
}

fn failed(message: &str) -> CommandError {
    CommandError::failure(message)
}

/// Lines with their numbers, without line ends.
fn lines(source: impl Read) -> impl Iterator<Item = Result<(u64, String), CommandError>> {
    BufReader::new(source).lines().zip(1u64..).map(|(text, line)| match text {
        Ok(text) => Ok((line, text)),
        Err(error) => Err(failed(&format!("line {line}: {error}"))),
    })
}

fn json_record(line: u64, text: &str, field: &str) -> Result<Record, CommandError> {
    let wrong = |problem: String| failed(&format!("line {line}: {problem}"));
    match serde_json::from_str(text).map_err(|error| wrong(format!("not JSON: {error}")))? {
        Value::String(text) => Ok(Record { line, id: None, text }),
        Value::Object(mut object) => match object.remove(field) {
            Some(Value::String(text)) => Ok(Record { line, id: object.remove("id"), text }),
            Some(_) => Err(wrong(format!("field {field:?} is not a string"))),
            None => Err(wrong(format!("there is no field {field:?}; name another with --field"))),
        },
        _ => Err(wrong("neither an object nor a string".into())),
    }
}

fn csv_records(source: impl Read + 'static, field: &str) -> Result<Records, CommandError> {
    let mut reader = csv::Reader::from_reader(source);
    let headers = reader.headers().map_err(|error| failed(&format!("line 1: {error}")))?.clone();
    let place = |name: &str| headers.iter().position(|header| header == name);
    let text = place(field).ok_or_else(|| {
        let known = headers.iter().collect::<Vec<_>>().join(", ");
        failed(&format!("there is no column {field:?} among {known}; name another with --field"))
    })?;
    let id = place("id").filter(|id| *id != text);
    Ok(Box::new(reader.into_records().map(move |row| {
        let row = row.map_err(|error| failed(&error.to_string()))?;
        Ok(Record {
            line: row.position().map_or(0, csv::Position::line),
            id: id.and_then(|id| row.get(id)).map(Value::from),
            text: row.get(text).unwrap_or_default().to_owned(),
        })
    })))
}
