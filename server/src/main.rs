//! The `proxima` executable.

fn main() -> std::process::ExitCode {
    proxima::cli::run(std::env::args_os())
}
