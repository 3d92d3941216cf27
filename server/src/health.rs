//! `proxima health`: asks a server whether it is ready, as a container's health check does.
//!
//! Must not know: what makes a server ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use clap::Args;

use crate::command::{CommandError, write_out};
use crate::config::{self, Seconds, ServeArgs};

/// Maximum bytes of a response body that are read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// What `proxima health` takes: where a server listens, as `serve` is told it.
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// The server's address, such as `127.0.0.1:8080` [default: from --host and --port]
    #[arg(long)]
    url: Option<String>,
    /// The host that the server listens on [default: 127.0.0.1]
    #[arg(long, env = "PROXIMA_HOST")]
    host: Option<String>,
    /// The port that the server listens on [default: 8080]
    #[arg(long, env = "PROXIMA_PORT")]
    port: Option<u16>,
    /// The server's TOML file
    #[arg(long, env = "PROXIMA_CONFIG", value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Ask for one model, by the name it is served under
    #[arg(long)]
    model: Option<String>,
    /// Time to wait for the response
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    timeout: Seconds,
}

/// Runs the command.
///
/// # Errors
/// Invalid arguments, a server that cannot be reached, or one that is not ready, with the reason.
pub fn run(arguments: HealthArgs) -> Result<(), CommandError> {
    let timeout = arguments.timeout.duration();
    let model = arguments.model.clone();
    let base = match &arguments.url {
        Some(url) if url.contains("://") => url.trim_end_matches('/').to_owned(),
        Some(address) => format!("http://{}", address.trim_end_matches('/')),
        None => {
            let HealthArgs { host, port, config, .. } = arguments;
            let given = ServeArgs { host, port, config, ..ServeArgs::default() };
            let (host, port) = config::listen_address(given)?;
            format!("http://{}:{port}", reachable(&host))
        }
    };
    let base = base.strip_suffix("/readyz").unwrap_or(&base);
    let mut url = url::Url::parse(&format!("{base}/readyz")).map_err(|error| {
        CommandError::usage(format!("{base:?} is not a valid address: {error}"))
    })?;
    if let (Some(model), Ok(mut path)) = (&model, url.path_segments_mut()) {
        path.extend(model.split('/'));
    }
    ask(&url, timeout)
}

/// An address at which a server that listens on `host` can be reached from the same machine.
fn reachable(host: &str) -> String {
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) => format!("[{}]", Ipv6Addr::LOCALHOST),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    }
}

fn ask(url: &url::Url, timeout: Duration) -> Result<(), CommandError> {
    // Proxies set in the environment are for other machines.
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    let agent = config.timeout_global(Some(timeout)).build().new_agent();
    let failed = |error: ureq::Error| CommandError::failure(format!("{url}: {error}"));
    let answer = agent.get(url.as_str()).call().map_err(failed)?;
    let status = answer.status();
    let body = answer.into_body().into_with_config().limit(ANSWER_BYTES_MAX).read_to_string();
    let body = body.map_err(failed)?;
    if status.is_success() {
        return write_out("ready\n");
    }
    let reason = serde_json::from_str::<serde_json::Value>(&body).ok();
    let reason = reason.and_then(|body| Some(body["reason"].as_str()?.to_owned()));
    Err(CommandError::failure(format!("{url}: {status}: {}", reason.unwrap_or(body).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_that_is_listened_on_can_be_reached() {
        for (host, expected) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "[::1]"),
            ("[::]", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "[::1]"),
            ("10.1.2.3", "10.1.2.3"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(reachable(host), expected, "{host}");
        }
    }
}
