//! What this executable is: version, commit, features and instruction set; manual pages and shell
//! completions of its commands.
//!
//! Must not know: what the commands do.

use std::path::Path;

use clap::Command;

use crate::command::{CommandError, write_out};

/// The build features that change what the executable can do, and whether each is on.
const FEATURES: [(&str, bool); 2] =
    [("cuda", cfg!(feature = "cuda")), ("metal", cfg!(feature = "metal"))];

/// What `--version` prints after the name; `commit` is the source commit, if the build knew it.
pub fn version(commit: Option<&str>) -> String {
    let on = FEATURES.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| *name);
    let features: Vec<&str> = on.collect();
    let features = if features.is_empty() { "none".to_owned() } else { features.join(", ") };
    format!(
        "{}\ncommit: {}\nfeatures: {features}\nprocessor: {} with {}",
        env!("CARGO_PKG_VERSION"),
        commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown"),
        std::env::consts::ARCH,
        proxima_models::instruction_set(),
    )
}

/// Prints the completion script of a shell.
///
/// # Errors
/// If standard output cannot be written.
pub fn completions(
    mut command: Command,
    shell: clap_complete::aot::Shell,
) -> Result<(), CommandError> {
    let mut script = Vec::new();
    clap_complete::aot::generate(shell, &mut command, "proxima", &mut script);
    write_out(&String::from_utf8_lossy(&script))
}

/// Prints the manual page, or writes the pages of all commands into a folder.
///
/// # Errors
/// If the folder or standard output cannot be written.
pub fn manual(command: Command, out: Option<&Path>) -> Result<(), CommandError> {
    let Some(folder) = out else {
        let mut page = Vec::new();
        let rendered = clap_mangen::Man::new(command).render(&mut page);
        rendered.map_err(|error| CommandError::failure(error.to_string()))?;
        return write_out(&String::from_utf8_lossy(&page));
    };
    let written =
        std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| CommandError::failure(format!("{}: {error}", folder.display())))
}
