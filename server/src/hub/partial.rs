//! A partially downloaded file, which can be resumed.
//!
//! Must not know: the network.

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::HubError;

/// The bytes of a file downloaded so far.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    file: File,
    /// How many bytes there are.
    pub length: u64,
}

impl Partial {
    /// What an earlier download left beside a blob, or an empty file.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn beside(blob: &Path) -> Result<Self, HubError> {
        let mut path = blob.as_os_str().to_owned();
        path.push(".incomplete");
        let path = PathBuf::from(path);
        let open = || {
            let mut file =
                File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let length = file.seek(SeekFrom::End(0))?;
            Ok((file, length))
        };
        let (file, length) = open().map_err(HubError::cache(&path))?;
        Ok(Self { path, file, length })
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(HubError::cache(&self.path))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Discards all bytes.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn restart(&mut self) -> Result<(), HubError> {
        let empty = self.file.set_len(0).and_then(|()| self.file.rewind());
        empty.map_err(HubError::cache(&self.path))?;
        self.length = 0;
        Ok(())
    }

    /// Whether the bytes match the ETag, if that is a SHA-256.
    ///
    /// # Errors
    /// A cache that cannot be read.
    pub fn has_hash(&mut self, etag: &str) -> Result<bool, HubError> {
        if etag.len() != 64 || !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(true);
        }
        let mut hash = Hash(Sha256::new());
        let read = self.file.rewind().and_then(|()| io::copy(&mut self.file, &mut hash));
        read.map_err(HubError::cache(&self.path))?;
        let found: String = hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(found.eq_ignore_ascii_case(etag))
    }

    /// Moves the file into place.
    ///
    /// # Errors
    /// A cache that cannot be written.
    pub fn finish(self, blob: &Path) -> Result<(), HubError> {
        let finished = self.file.sync_all().and_then(|()| fs::rename(&self.path, blob));
        finished.map_err(HubError::cache(blob))
    }

    /// Removes the file.
    pub fn discard(self) {
        // If that fails, the next download finds the file and checks its hash again.
        let _ = fs::remove_file(&self.path);
    }
}

struct Hash(Sha256);

impl io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
