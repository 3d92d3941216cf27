//! Variables that Kubernetes injects into every container for each Service of its namespace: a
//! Service named `proxima` (or `proxima-x`) yields some that start with our prefix.
//!
//! Names and values are those of kubelet (`pkg/kubelet/envvars`). A variable that only resembles
//! one of them is still a setting, or an error.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};

use clap::Command;
use clap::builder::Resettable;

use super::Environment;

/// Protocols of a Service's ports.
const PROTOCOLS: [&str; 3] = ["tcp", "udp", "sctp"];

/// A command that ignores variables injected by kubelet where it looks for settings.
pub fn without_kubelet(command: Command, environment: &Environment) -> Command {
    let injected = |variable: &OsStr| {
        let name = variable.to_str().unwrap_or_default();
        environment.variables.get(name).is_some_and(|value| is_injected(name, value))
    };
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|argument| match argument.get_env().is_some_and(injected) {
            true => argument.env(Resettable::Reset),
            false => argument,
        })
    })
}

/// Whether a variable's name and value are ones that kubelet makes for a Service.
pub fn is_injected(name: &str, value: &str) -> bool {
    let is_port = value.parse::<u16>().is_ok();
    let is_address = value.parse::<IpAddr>().is_ok();
    if name.ends_with("_SERVICE_HOST") {
        return is_address;
    }
    // Variables of a named port end with its name.
    if name.ends_with("_SERVICE_PORT") || name.contains("_SERVICE_PORT_") {
        return is_port;
    }
    if let Some(protocol) = PROTOCOLS.into_iter().find(|protocol| is_url(value, protocol)) {
        return name.ends_with("_PORT") || ends_with_port(name, protocol);
    }
    for protocol in PROTOCOLS {
        for (suffix, fits) in
            [("_PROTO", value == protocol), ("_PORT", is_port), ("_ADDR", is_address)]
        {
            if name.strip_suffix(suffix).is_some_and(|name| ends_with_port(name, protocol)) {
                return fits;
            }
        }
    }
    false
}

/// Whether a value is `protocol://ADDRESS:PORT`.
fn is_url(value: &str, protocol: &str) -> bool {
    let address = value.strip_prefix(protocol).and_then(|rest| rest.strip_prefix("://"));
    address.is_some_and(|address| address.parse::<SocketAddr>().is_ok())
}

/// Whether a name ends with `_PORT_NUMBER_PROTOCOL`.
fn ends_with_port(name: &str, protocol: &str) -> bool {
    let name = name.strip_suffix(&protocol.to_uppercase());
    let name = name.and_then(|name| name.strip_suffix('_'));
    let number = name.and_then(|name| name.rsplit_once("_PORT_"));
    number.is_some_and(|(_, number)| number.parse::<u16>().is_ok())
}
