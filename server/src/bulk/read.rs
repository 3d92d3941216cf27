//! Reads records from a file of texts (one text per line, JSON Lines, CSV), with images and videos
//! in JSON Lines, or from a folder of images.
//!
//! Must not know: the contents of an image or video.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use indicatif::ProgressBar;
use proxima_models::{Content, Item, Part};
use serde_json::Value;

use crate::command::CommandError;
use crate::dialects::items::{Object, Source, read_item};

/// File extensions of a folder's images.
const IMAGE_ENDS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"];
/// Keys of a JSON line that name files.
const MEDIA: [&str; 2] = ["image", "video"];

/// How texts lie in a file, or images in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InputFormat {
    /// One text per line
    Text,
    /// One JSON object or string per line
    Jsonl,
    /// Comma-separated, with a header
    Csv,
    /// A folder; every image in it, by name
    Images,
}

impl InputFormat {
    /// The format implied by a path: a folder, or a file's extension.
    pub fn of(path: &Path) -> Self {
        if path.is_dir() {
            return Self::Images;
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("jsonl" | "ndjson") => Self::Jsonl,
            Some("csv") => Self::Csv,
            _ => Self::Text,
        }
    }
}

/// Where a record is from.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordOrigin {
    /// A line of a file, counted from 1.
    Line(u64),
    /// A file in a folder.
    File(String),
}

impl fmt::Display for RecordOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::File(name) => f.write_str(name),
        }
    }
}

/// One input.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkRecord {
    /// Where it was found.
    pub origin: RecordOrigin,
    /// Its `id`, if present; otherwise the path of its only image.
    pub id: Option<Value>,
    /// A text, or texts and paths of images and videos.
    pub content: Content<Source>,
}

type Records = Box<dyn Iterator<Item = Result<BulkRecord, CommandError>>>;

/// The records of a file or folder.
pub struct Reader {
    records: Records,
    /// The base folder of relative image and video paths.
    pub folder: PathBuf,
    /// Shows how much of the file has been read.
    pub bar: ProgressBar,
}

impl Iterator for Reader {
    type Item = Result<BulkRecord, CommandError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.records.next()
    }
}

/// Opens a file, a folder, or standard input for `-`.
///
/// # Errors
/// The path cannot be opened, a CSV lacks the column, or a folder has no images.
pub fn open(
    path: &Path,
    format: InputFormat,
    field: &str,
    bar: &ProgressBar,
) -> Result<Reader, CommandError> {
    if format == InputFormat::Images {
        let records = Box::new(images(path)?.into_iter().map(Ok));
        return Ok(Reader { records, folder: path.to_owned(), bar: bar.clone() });
    }
    let source: Box<dyn Read> = if path == Path::new("-") {
        Box::new(io::stdin())
    } else {
        let file = File::open(path);
        Box::new(file.map_err(|error| failed(&format!("{}: {error}", path.display())))?)
    };
    let source = bar.wrap_read(source);
    let records: Records = match format {
        InputFormat::Text => Box::new(
            lines(source).map(|line| line.map(|(line, text)| text_record(line, None, text))),
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
        InputFormat::Images => return Err(failed("standard input is not a folder of images")),
    };
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    Ok(Reader { records, folder, bar: bar.clone() })
}

fn text_record(line: u64, id: Option<Value>, text: String) -> BulkRecord {
    BulkRecord { origin: RecordOrigin::Line(line), id, content: text.into() }
}

/// The images of a folder, sorted by name.
fn images(folder: &Path) -> Result<Vec<BulkRecord>, CommandError> {
    let wrong = |error: io::Error| failed(&format!("{}: {error}", folder.display()));
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        let is_image = IMAGE_ENDS.iter().any(|known| end.eq_ignore_ascii_case(known));
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if is_image && path.is_file() => names.push(name.to_owned()),
            _ => {}
        }
    }
    if names.is_empty() {
        let known = IMAGE_ENDS.join(", ");
        return Err(failed(&format!("{} has no images ({known})", folder.display())));
    }
    names.sort_unstable();
    let records = names.into_iter().map(|name| BulkRecord {
        id: Some(Value::from(name.as_str())),
        content: Item::from(vec![Part::Image(Source::Written(name.clone()))]).into(),
        origin: RecordOrigin::File(name),
    });
    Ok(records.collect())
}

fn failed(message: &str) -> CommandError {
    CommandError::failure(message)
}

/// Lines with their numbers, without line endings.
fn lines(source: impl Read) -> impl Iterator<Item = Result<(u64, String), CommandError>> {
    BufReader::new(source).lines().zip(1u64..).map(|(text, line)| match text {
        Ok(text) => Ok((line, text)),
        Err(error) => Err(failed(&format!("line {line}: {error}"))),
    })
}

fn json_record(line: u64, text: &str, field: &str) -> Result<BulkRecord, CommandError> {
    let wrong = |problem: String| failed(&format!("line {line}: {problem}"));
    match serde_json::from_str(text).map_err(|error| wrong(format!("not JSON: {error}")))? {
        Value::String(text) => Ok(text_record(line, None, text)),
        Value::Object(object) if MEDIA.iter().any(|key| filled(&object, key)) => {
            item_record(line, object, field).map_err(wrong)
        }
        Value::Object(mut object) => match object.remove(field) {
            Some(Value::String(text)) => Ok(text_record(line, object.remove("id"), text)),
            Some(_) => Err(wrong(format!("field {field:?} is not a string"))),
            None => Err(wrong(format!("there is no field {field:?}; name another with --field"))),
        },
        _ => Err(wrong("neither an object nor a string".into())),
    }
}

fn filled(object: &Object, key: &str) -> bool {
    object.get(key).is_some_and(|value| !value.is_null())
}

/// The record of a line with images or videos; unknown keys are ignored.
fn item_record(line: u64, mut object: Object, field: &str) -> Result<BulkRecord, String> {
    let id = object.remove("id").filter(|id| !id.is_null());
    let path = object.get("image").filter(|image| image.is_string()).cloned();
    let known = ["text", "image", "video", "instruction", "fps", "max_frames"];
    let known = known.into_iter().filter_map(|key| {
        let value = object.remove(if key == "text" { field } else { key })?;
        Some((key.to_owned(), value))
    });
    let content = read_item(known.collect())?.into();
    Ok(BulkRecord { origin: RecordOrigin::Line(line), id: id.or(path), content })
}

fn csv_records(source: impl Read + 'static, field: &str) -> Result<Records, CommandError> {
    let mut reader = csv::Reader::from_reader(source);
    let headers = reader.headers().map_err(|error| failed(&format!("line 1: {error}")))?.clone();
    let column = |name: &str| headers.iter().position(|header| header == name);
    let text = column(field).ok_or_else(|| {
        let known = headers.iter().collect::<Vec<_>>().join(", ");
        failed(&format!("there is no column {field:?} among {known}; name another with --field"))
    })?;
    let id = column("id").filter(|id| *id != text);
    Ok(Box::new(reader.into_records().map(move |row| {
        let row = row.map_err(|error| failed(&error.to_string()))?;
        let line = row.position().map_or(0, csv::Position::line);
        let id = id.and_then(|id| row.get(id)).map(Value::from);
        Ok(text_record(line, id, row.get(text).unwrap_or_default().to_owned()))
    })))
}
