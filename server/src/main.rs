//! The `proxima` executable.

#![forbid(unsafe_code)]

/// While models are loaded, memory that is not there ends the process with a sentence.
#[global_allocator]
static ALLOCATOR: proxima_models::Allocator = proxima_models::Allocator;

fn main() -> std::process::ExitCode {
    // Read only here, so that a new commit recompiles nothing but this file.
    proxima::cli::run(std::env::args_os(), option_env!("PROXIMA_BUILD_COMMIT"))
}
