//! `proxima models`: lists the models in the Hub cache, and removes them.
//!
//! Must not know: how the cache is laid out.

use clap::{Args, Subcommand};

use crate::command::{CommandError, write_out};
use crate::config::{self, Environment};
use crate::hub::{self, Stored, is_model_id};

/// What `proxima models` takes.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// List the models in the cache with their sizes (the default)
    List,
    /// Remove a model from the cache
    Remove {
        /// The model, as OWNER/NAME
        id: String,
    },
}

/// Runs the command.
///
/// # Errors
/// A cache that cannot be read or written, an invalid id, or a model that is not in the cache.
pub fn run(arguments: &ModelsArgs, environment: &Environment) -> Result<(), CommandError> {
    let cache = config::hub_settings(environment).cache;
    let failed = |error: hub::HubError| CommandError::failure(error.to_string());
    let models = hub::stored(&cache).map_err(failed)?;
    match &arguments.action {
        None | Some(Action::List) => {
            write_out(&table(&models))?;
            let bytes: u64 = models.iter().map(|model| model.bytes).sum();
            let (count, size) = (models.len(), size(bytes));
            write_out(&format!("{count} models, {size}, in {}\n", cache.display()))
        }
        Some(Action::Remove { id }) => {
            if !is_model_id(id) {
                let message = format!("{id:?} is not a model id like OWNER/NAME");
                return Err(CommandError::usage(message));
            }
            let bytes = models.iter().find(|model| model.id == *id).map_or(0, |model| model.bytes);
            if !hub::remove(&cache, id).map_err(failed)? {
                let message = format!("{id} is not in {}; see `proxima models`", cache.display());
                return Err(CommandError::failure(message));
            }
            write_out(&format!("{id} removed, {} freed\n", size(bytes)))
        }
    }
}

fn table(models: &[Stored]) -> String {
    let wide = models.iter().map(|model| model.id.chars().count()).max().unwrap_or(0);
    let lines = models.iter().map(|model| {
        let revisions: Vec<String> = model.revisions.iter().map(revision).collect();
        let revisions = if revisions.is_empty() { "-".into() } else { revisions.join(", ") };
        format!("{:wide$}  {:>9}  {revisions}\n", model.id, size(model.bytes))
    });
    lines.collect()
}

fn revision(revision: &hub::Revision) -> String {
    match revision.lacks {
        0 => revision.name.clone(),
        lacks => format!("{} (incomplete: {lacks} files are missing)", revision.name),
    }
}

/// A size as the Hub's tools show it, in decimal units.
fn size(bytes: u64) -> String {
    match bytes as f64 {
        bytes if bytes < 1e6 => format!("{:.1} KB", bytes / 1e3),
        bytes if bytes < 1e9 => format!("{:.1} MB", bytes / 1e6),
        bytes => format!("{:.1} GB", bytes / 1e9),
    }
}
