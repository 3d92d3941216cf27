//! Bounds of settings, and combinations that are not allowed.
//!
//! Must not know: where a setting comes from.

use super::ServeSettings;
use crate::command::CommandError;

/// Maximum threads of each kind.
const THREADS_MAX: usize = 1024;
/// Maximum concurrent requests.
const REQUESTS_MAX: usize = 1 << 20;
/// Maximum batch time in milliseconds.
const BATCH_TIME_MAX: usize = 3_600_000;

/// Checks that settings are within bounds and consistent with each other.
///
/// # Errors
/// A usage error that names the setting.
pub(super) fn check(settings: &ServeSettings) -> Result<(), CommandError> {
    let (engine, http) = (&settings.engine, &settings.http);
    for (name, value) in [
        ("max-batch-tokens", engine.batch_tokens_max),
        ("max-queue-tokens", engine.queue_tokens_max),
        ("max-inputs", engine.inputs_max),
        ("tokenization-threads", engine.tokenization_threads),
        ("max-concurrent-requests", http.requests_max),
        ("max-body-bytes", http.body_bytes_max),
        ("max-bodies-bytes", http.bodies_bytes_max),
        ("max-answer-bytes", http.answer_bytes_max),
        ("batch-time-ms", engine.batch_time_target.as_millis() as usize),
        ("request-timeout", http.request_timeout.as_secs() as usize),
        ("body-timeout", http.body_timeout.as_secs() as usize),
        ("write-timeout", http.write_timeout.as_secs() as usize),
        ("threads", settings.threads.unwrap_or(1)),
    ] {
        let most = match name {
            "threads" | "tokenization-threads" => THREADS_MAX,
            "max-concurrent-requests" => REQUESTS_MAX,
            "batch-time-ms" => BATCH_TIME_MAX,
            _ => usize::MAX,
        };
        if value == 0 {
            return Err(CommandError::usage(format!("{name} must be at least 1")));
        }
        if value > most {
            return Err(CommandError::usage(format!(
                "{name} is {value}, but may be at most {most}"
            )));
        }
    }
    if settings.port != 0 && settings.grpc_port == Some(settings.port) {
        let message = format!("port and grpc-port are both {}; gRPC needs its own", settings.port);
        return Err(CommandError::usage(message));
    }
    if engine.batch_tokens_max > engine.queue_tokens_max {
        let message = format!(
            "max-batch-tokens ({}) is above max-queue-tokens ({}), so no batch could ever fill",
            engine.batch_tokens_max, engine.queue_tokens_max
        );
        return Err(CommandError::usage(message));
    }
    if http.api_keys.iter().any(String::is_empty) {
        return Err(CommandError::usage("an API key is empty"));
    }
    if !http.api_keys.iter().all(|key| key.chars().all(|letter| letter.is_ascii_graphic())) {
        let message = "an API key has a space or another character that headers cannot carry; use \
                       visible ASCII";
        return Err(CommandError::usage(message));
    }
    Ok(())
}
