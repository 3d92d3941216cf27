//! Groups records into chunks; each chunk is one request to the engine.
//!
//! Must not know: how records are read, how requests are answered.

use proxima_models::Input;

use super::read::{BulkRecord, Reader};
use super::{CommandError, files};

/// Maximum inputs in a chunk.
const INPUTS: usize = 64;
/// Maximum bytes of text in a chunk of more than one input. A token is at least one byte, so a
/// chunk fits in the engine's queue.
const TEXT_BYTES: usize = 1 << 20;
/// Maximum images and videos in a chunk of more than one input: they wait decoded.
const FILES: usize = 16;
/// Maximum bytes of these files.
const FILE_BYTES: usize = 16 << 20;

/// The size of a set of inputs.
#[derive(Default)]
struct ChunkSize {
    inputs: usize,
    text_bytes: usize,
    files: usize,
    file_bytes: usize,
}

impl ChunkSize {
    fn with(&self, input: &Input) -> Self {
        let files = input.files();
        Self {
            inputs: self.inputs + 1,
            text_bytes: self.text_bytes + input.bytes(),
            files: self.files + files.len(),
            file_bytes: self.file_bytes
                + files.iter().map(|file| file.bytes().len()).sum::<usize>(),
        }
    }

    fn fits(&self) -> bool {
        self.inputs <= INPUTS
            && self.text_bytes <= TEXT_BYTES
            && self.files <= FILES
            && self.file_bytes <= FILE_BYTES
    }
}

/// A record and the input made from it.
pub type Ready = (BulkRecord, Input);

/// Groups records into chunks, reading the files they name; an invalid record ends the last chunk.
pub struct Chunks {
    records: Reader,
    /// Records still to be skipped.
    skip: u64,
    /// A record that did not fit into the previous chunk.
    held: Option<Ready>,
}

impl Chunks {
    /// Skips the first `skip` records.
    pub fn new(records: Reader, skip: u64) -> Self {
        Self { records, skip, held: None }
    }

    /// The next record that is not skipped, with its files read.
    fn ready(&mut self) -> Option<Result<Ready, CommandError>> {
        if let Some(held) = self.held.take() {
            return Some(Ok(held));
        }
        loop {
            match self.records.next()? {
                Ok(_) if self.skip > 0 => self.skip -= 1,
                Ok(mut record) => {
                    let content = std::mem::replace(&mut record.content, "".into());
                    let content = files::read(content, &self.records.folder);
                    return Some(match content {
                        Ok(content) => Ok((record, content.into())),
                        Err(problem) => {
                            Err(CommandError::failure(format!("{}: {problem}", record.origin)))
                        }
                    });
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Iterator for Chunks {
    type Item = (Vec<Ready>, Option<CommandError>);

    fn next(&mut self) -> Option<Self::Item> {
        let (mut chunk, mut size) = (Vec::new(), ChunkSize::default());
        while let Some(ready) = self.ready() {
            let ready = match ready {
                Ok(ready) => ready,
                Err(error) => return Some((chunk, Some(error))),
            };
            let larger = size.with(&ready.1);
            if !chunk.is_empty() && !larger.fits() {
                self.held = Some(ready);
                break;
            }
            size = larger;
            chunk.push(ready);
        }
        (!chunk.is_empty()).then_some((chunk, None))
    }
}
