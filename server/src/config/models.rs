//! The models that `--model` names, and where each comes from.
//!
//! Must not know: the contents of a model's files.

use std::path::{Path, PathBuf};

use crate::command::CommandError;

/// A model to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelSource {
    /// The name it is served under.
    pub name: String,
    /// Where it comes from.
    pub origin: ModelOrigin,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelOrigin {
    /// A folder.
    Folder(PathBuf),
    /// The Hub.
    Hub {
        /// Its id.
        id: String,
        /// A branch, tag or commit for this model alone.
        revision: Option<String>,
    },
}

/// The models named by `[NAME=]ID|PATH` arguments.
pub(super) fn model_sources(arguments: &[String]) -> Result<Vec<ModelSource>, CommandError> {
    if arguments.is_empty() {
        return Err(CommandError::usage(
            "no model: name at least one, as `proxima serve ID|PATH` or with --model",
        ));
    }
    let mut sources: Vec<ModelSource> = Vec::new();
    for argument in arguments {
        let source = model_source(argument)?;
        if sources.iter().any(|other| other.name == source.name) {
            let message = format!(
                "two models would be served as {:?}; give one another name with --model NAME=...",
                source.name
            );
            return Err(CommandError::usage(message));
        }
        sources.push(source);
    }
    Ok(sources)
}

/// The model named by one `[NAME=]ID[@REVISION]|PATH` argument. An existing folder is a path;
/// anything that begins with a dot, slash or tilde must be one; the rest are ids of the Hub.
///
/// # Errors
/// Usage errors: a missing folder, an invalid id.
pub fn model_source(argument: &str) -> Result<ModelSource, CommandError> {
    let (name, origin) = match argument.split_once('=') {
        Some((name, origin)) => (Some(name), origin),
        None => (None, argument),
    };
    if name.is_some_and(str::is_empty) || origin.is_empty() {
        return Err(CommandError::usage(format!("{argument:?} is not [NAME=]ID[@REVISION]|PATH")));
    }
    let path = Path::new(origin);
    if path.is_dir() {
        let folder = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let own = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.map(str::to_owned).or(own).unwrap_or_else(|| "model".into());
        return Ok(ModelSource { name, origin: ModelOrigin::Folder(path.to_owned()) });
    }
    if origin.starts_with(['.', '/', '~']) || path.is_absolute() {
        return Err(CommandError::usage(format!("there is no folder {origin}")));
    }
    let (id, revision) = model_id(origin)?;
    let name = name.unwrap_or(&id).to_owned();
    Ok(ModelSource { name, origin: ModelOrigin::Hub { id, revision } })
}

/// The id and, if present, the revision of `OWNER/NAME[@REVISION]`.
///
/// # Errors
/// Usage errors: an invalid id or revision.
pub fn model_id(text: &str) -> Result<(String, Option<String>), CommandError> {
    let (id, revision) = match text.split_once('@') {
        Some((id, revision)) => (id, Some(revision)),
        None => (text, None),
    };
    if !crate::hub::is_model_id(id) {
        let message = format!("{id:?} is neither a folder nor a model id like OWNER/NAME");
        return Err(CommandError::usage(message));
    }
    if let Some(revision) = revision.filter(|revision| !crate::hub::is_revision(revision)) {
        let message = format!("{revision:?} is not the name of a branch, tag or commit");
        return Err(CommandError::usage(message));
    }
    Ok((id.to_owned(), revision.map(str::to_owned)))
}
