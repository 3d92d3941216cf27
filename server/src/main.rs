//! The `proxima` executable.

#![forbid(unsafe_code)]

/// While models are loaded, an allocation failure ends the process with a readable message.
#[global_allocator]
static ALLOCATOR: proxima_models::Allocator = proxima_models::Allocator;

fn main() -> std::process::ExitCode {
    // Read only here, so that a new commit recompiles only this file.
    proxima::cli::run(std::env::args_os(), option_env!("PROXIMA_BUILD_COMMIT"))
}
