//! Writes vectors as JSON Lines or a NumPy array; both can be resumed after an interrupted run.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;
use serde_json::Value;

use super::BulkRecord;
use crate::command::CommandError;

/// How vectors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// `{"id"?, "index", "embedding"}` per line
    Jsonl,
    /// A NumPy array, float32, one row per text
    Npy,
}

impl OutputFormat {
    /// The format implied by the file's extension.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("npy") => Self::Npy,
            _ => Self::Jsonl,
        }
    }
}

/// Receives vectors in order.
pub trait Sink {
    /// The number of rows, including those of an earlier run.
    fn rows(&self) -> u64;
    /// Appends one vector.
    ///
    /// # Errors
    /// A failed write.
    fn write(&mut self, record: &BulkRecord, vector: &[f32]) -> Result<(), CommandError>;
    /// Makes everything written so far survive the end of the process.
    ///
    /// # Errors
    /// A failed write.
    fn flush(&mut self) -> Result<(), CommandError>;
}

fn failed(error: io::Error) -> CommandError {
    CommandError::failure(format!("the output cannot be written: {error}"))
}

/// Opens an output, `-` for standard output.
///
/// # Errors
/// The file exists and is not to be resumed, or does not match.
pub fn open(
    path: &Path,
    format: OutputFormat,
    width: usize,
    resume: bool,
) -> Result<Box<dyn Sink>, CommandError> {
    let stdout = path == Path::new("-");
    if stdout && (resume || format == OutputFormat::Npy) {
        return Err(CommandError::usage("--resume and npy need a file: name it with --output"));
    }
    if stdout {
        let writer: Box<dyn Write> = Box::new(BufWriter::new(io::stdout()));
        return Ok(Box::new(Jsonl { writer, rows: 0 }));
    }
    let exists = path.exists();
    if exists && !resume {
        let message =
            format!("{} exists; continue it with --resume, or name another output", path.display());
        return Err(CommandError::usage(message));
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path);
    let file = file.map_err(failed)?;
    match format {
        OutputFormat::Jsonl => Ok(Box::new(Jsonl::resume(file)?)),
        OutputFormat::Npy => Ok(Box::new(Npy::resume(file, width, exists)?)),
    }
}

/// A line of JSON Lines.
#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    index: u64,
    embedding: &'a [f32],
}

struct Jsonl {
    writer: Box<dyn Write>,
    rows: u64,
}

impl Jsonl {
    /// Resumes after the last complete line; the remainder of an interrupted write is cut off.
    fn resume(file: File) -> Result<Self, CommandError> {
        let (mut rows, mut whole) = (0, 0);
        let mut reader = BufReader::new(&file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let length = reader.read_until(b'\n', &mut line).map_err(failed)?;
            if line.last() != Some(&b'\n') || serde_json::from_slice::<Value>(&line).is_err() {
                break;
            }
            rows += 1;
            whole += length as u64;
        }
        drop(reader);
        file.set_len(whole).map_err(failed)?;
        let mut file = file;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { writer: Box::new(BufWriter::new(file)), rows })
    }
}

impl Sink for Jsonl {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn write(&mut self, record: &BulkRecord, vector: &[f32]) -> Result<(), CommandError> {
        let line = JsonLine { id: record.id.as_ref(), index: self.rows, embedding: vector };
        serde_json::to_writer(&mut self.writer, &line).map_err(|error| failed(error.into()))?;
        self.writer.write_all(b"\n").map_err(failed)?;
        self.rows += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        self.writer.flush().map_err(failed)
    }
}

/// Bytes of the array's header; enough for any number of rows.
const HEADER: u64 = 128;

struct Npy {
    file: BufWriter<File>,
    width: usize,
    rows: u64,
}

impl Npy {
    fn resume(file: File, width: usize, exists: bool) -> Result<Self, CommandError> {
        let row = (width * size_of::<f32>()) as u64;
        let length = file.metadata().map_err(failed)?.len();
        let mut rows = 0;
        if exists && length >= HEADER {
            let mut header = Vec::new();
            io::Read::take(&file, HEADER).read_to_end_into(&mut header)?;
            let marker = format!(", {width})");
            let text = String::from_utf8_lossy(&header);
            if !header.starts_with(b"\x93NUMPY") || !text.contains(&marker) {
                let message =
                    format!("the output is not an array of {width} columns; name another");
                return Err(CommandError::usage(message));
            }
            rows = (length - HEADER) / row;
        }
        file.set_len(HEADER + rows * row).map_err(failed)?;
        let mut this = Self { file: BufWriter::new(file), width, rows };
        this.flush()?;
        Ok(this)
    }

    /// The header of format 1.0, as NumPy's documentation describes it.
    fn header(&self) -> Vec<u8> {
        let shape = format!("({}, {})", self.rows, self.width);
        let description = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend_from_slice(&(HEADER as u16 - 10).to_le_bytes());
        header.extend_from_slice(description.as_bytes());
        header.resize(HEADER as usize - 1, b' ');
        header.push(b'\n');
        header
    }
}

/// Reads to the end, with this module's error.
trait ReadToEnd {
    fn read_to_end_into(self, to: &mut Vec<u8>) -> Result<(), CommandError>;
}

impl<R: io::Read> ReadToEnd for R {
    fn read_to_end_into(mut self, to: &mut Vec<u8>) -> Result<(), CommandError> {
        self.read_to_end(to).map(drop).map_err(failed)
    }
}

impl Sink for Npy {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn write(&mut self, _: &BulkRecord, vector: &[f32]) -> Result<(), CommandError> {
        for value in vector {
            self.file.write_all(&value.to_le_bytes()).map_err(failed)?;
        }
        self.rows += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CommandError> {
        let header = self.header();
        let mut write = || -> io::Result<()> {
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(&header)?;
            self.file.seek(SeekFrom::End(0))?;
            self.file.flush()
        };
        write().map_err(failed)
    }
}
