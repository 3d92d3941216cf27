//! Hosts that files may be fetched from: `--media-allow`.
//!
//! Must not know: connections, what is fetched.

use std::net::IpAddr;
use std::str::FromStr;

use url::Host;

use super::address::Reach;

/// The prefix of a host that may have private addresses.
const INSIDE: &str = "private:";

/// An entry of the allow list: `HOST`, `*.DOMAIN` or `*`, optionally with `:PORT`, or
/// `private:HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowEntry {
    hosts: Hosts,
    port: Option<u16>,
    /// Whether its addresses may be private.
    pub inside: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    /// Every host.
    Any,
    /// Subdomains of a domain, not the domain itself.
    Below(String),
    /// One host.
    One(Host<String>),
}

impl AllowEntry {
    /// Whether it allows every host.
    pub fn is_any(&self) -> bool {
        self.hosts == Hosts::Any
    }

    fn has_host(&self, host: &Host<String>) -> bool {
        match (&self.hosts, host) {
            (Hosts::Any, _) => true,
            (Hosts::One(one), host) => one == host,
            (Hosts::Below(domain), Host::Domain(name)) => name
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
            (Hosts::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        }
    }

    fn has_port(&self, port: u16) -> bool {
        self.port.map_or(matches!(port, 80 | 443), |own| own == port)
    }
}

/// Whether a host is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowed<'a> {
    /// Allowed by this entry.
    By(&'a AllowEntry),
    /// Allowed on other ports only.
    OtherPort,
    /// Not allowed.
    No,
}

/// Finds the entry that allows a host; those for private hosts take precedence.
pub fn allowed<'a>(entries: &'a [AllowEntry], host: &Host<String>, port: u16) -> Allowed<'a> {
    let of_host = || entries.iter().filter(|entry| entry.has_host(host));
    match of_host().filter(|entry| entry.has_port(port)).max_by_key(|entry| entry.inside) {
        Some(entry) => Allowed::By(entry),
        None if of_host().next().is_some() => Allowed::OtherPort,
        None => Allowed::No,
    }
}

/// A host without the trailing dot of an absolute name; both are the same host.
pub fn without_root(host: Host<String>) -> Host<String> {
    match host {
        Host::Domain(name) => Host::Domain(name.strip_suffix('.').unwrap_or(&name).to_owned()),
        literal => literal,
    }
}

/// The IP address of a host that is written as one, not as a name.
pub fn literal(host: &Host<String>) -> Option<IpAddr> {
    match host {
        Host::Domain(_) => None,
        Host::Ipv4(address) => Some((*address).into()),
        Host::Ipv6(address) => Some((*address).into()),
    }
}

/// The entry that would allow a host, unless nothing is ever fetched from it.
pub fn entry_for(host: &Host<String>) -> Option<String> {
    match literal(host).map(Reach::of) {
        Some(Reach::Never) => None,
        Some(Reach::Inside) => Some(format!("{INSIDE}{host}")),
        Some(Reach::Public) | None => Some(host.to_string()),
    }
}

impl FromStr for AllowEntry {
    type Err = String;

    /// An invalid entry, with what to write instead.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |problem: &str| Err(format!("media-allow {text:?}: {problem}"));
        let trimmed = text.trim();
        let (inside, rest) =
            trimmed.strip_prefix(INSIDE).map_or((false, trimmed), |rest| (true, rest));
        if rest.contains(['/', '@', '?', '#']) {
            return wrong("write a host, like example.com, without a scheme or path");
        }
        let Some((name, port)) = name_and_port(rest) else {
            return wrong("a port is a number from 1 to 65535");
        };
        let (below, name) = name.strip_prefix("*.").map_or((false, name), |name| (true, name));
        if inside && (below || name == "*") {
            return wrong("private: is for exactly one host");
        }
        if name == "*" && !below {
            return Ok(Self { hosts: Hosts::Any, port, inside });
        }
        let Some(host) = Host::parse(name).ok().filter(|_| !name.contains('*')) else {
            return wrong("this is not a host: write one like example.com, *.example.com or *");
        };
        let host = without_root(host);
        match literal(&host).map(Reach::of) {
            Some(Reach::Never) => return wrong("nothing is ever fetched from this address"),
            Some(Reach::Inside) if !inside => {
                return wrong(
                    "this address is not public; if that is intended, put private: before it",
                );
            }
            _ => {}
        }
        let hosts = match (below, host) {
            (true, Host::Domain(name)) => Hosts::Below(name),
            (true, _) => return wrong("an address has no subdomains"),
            (false, host) => Hosts::One(host),
        };
        Ok(Self { hosts, port, inside })
    }
}

/// Splits `HOST[:PORT]`; `None` if the port is invalid.
fn name_and_port(text: &str) -> Option<(&str, Option<u16>)> {
    let port = |text: &str| text.parse().ok().filter(|port| *port != 0);
    match text.rsplit_once(':') {
        // The last colon is part of an IPv6 address unless a bracket precedes it.
        Some((name, _)) if name.contains(':') && !name.ends_with(']') => {
            match text.ends_with(']') {
                true => Some((text, None)),
                false => None,
            }
        }
        Some((name, digits)) => Some((name, Some(port(digits)?))),
        None => Some((text, None)),
    }
}
