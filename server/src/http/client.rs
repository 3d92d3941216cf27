//! The client of a request, by which fair shares of the server are counted.
//!
//! Must not know: what a client requests.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::LazyLock;

use axum::http::{Extensions, HeaderMap};
use proxima_engine::ClientKey;
use sha2::{Digest as _, Sha256};

use super::keys::sent_key;

/// The addresses of one IPv6 client share their first 64 bits.
const IPV6_CLIENT_MASK: u128 = !0 << 64;

/// The remote address of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// Proxies whose `x-forwarded-for` is trusted: one address, or all with the same prefix
/// (`10.0.0.0/8`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    bits: u32,
}

impl AddressRange {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address or a network like 10.0.0.0/8");
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(bits_max), str::parse).map_err(|_| wrong())?;
        if bits > bits_max { Err(wrong()) } else { Ok(Self { address, bits }) }
    }
}

/// How clients are identified.
#[derive(Debug, Clone, Copy)]
pub struct Clients<'a> {
    /// Whether requests carry a key that was checked.
    pub have_keys: bool,
    /// Proxies whose `x-forwarded-for` is trusted.
    pub trusted_proxies: &'a [AddressRange],
}

impl Clients<'_> {
    /// The client of a request: its key, else its address. Requests without either are one client.
    pub fn key(&self, headers: &HeaderMap, extensions: &Extensions) -> ClientKey {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        if self.have_keys {
            return ClientKey::new(HASHER.hash_one(sent_key(headers)));
        }
        let peer = extensions.get::<Peer>().map(|peer| self.address(peer.0, headers));
        ClientKey::new(HASHER.hash_one(peer.map(client_part)))
    }

    /// A label that distinguishes a key from others without revealing it.
    pub fn shown_key(&self, headers: &HeaderMap) -> Option<String> {
        let digest = Sha256::digest(sent_key(headers)?);
        let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        Some(format!("key:{digits}"))
    }

    /// The client's address for the log, if there is a connection.
    pub fn shown_address(&self, headers: &HeaderMap, extensions: &Extensions) -> Option<String> {
        let peer = extensions.get::<Peer>()?;
        Some(self.address(peer.0, headers).to_canonical().to_string())
    }

    /// The client's address: that of the connection, or what trusted proxies report, starting with
    /// the nearest. An untrusted sender could have written anything, so entries beyond it are
    /// ignored.
    fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_trusted =
            |address: IpAddr| self.trusted_proxies.iter().any(|network| network.contains(address));
        let mut nearest = peer;
        let lines = headers.get_all("x-forwarded-for").iter().rev();
        for entry in lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(',')) {
            if !is_trusted(nearest) {
                break;
            }
            let Some(address) = parse_address(entry.trim()) else { break };
            nearest = address;
        }
        nearest
    }
}

/// An address with or without a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| Some(text.parse::<std::net::SocketAddr>().ok()?.ip()))
}

/// The part of an address that identifies one client.
pub fn client_part(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & IPV6_CLIENT_MASK))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn forwarded_addresses_count_from_trusted_proxies_only() {
        let trusted = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"];
        let trusted: Vec<AddressRange> =
            trusted.iter().map(|network| network.parse().expect("a network")).collect();
        let cases: [(&str, &[&str], &str); 9] = [
            ("203.0.113.5", &["198.51.100.1"], "203.0.113.5"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["198.51.100.1"], "198.51.100.1"),
            // What the client itself wrote comes before what the proxy added.
            ("10.1.2.3", &["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", &["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
            ("10.1.2.3", &["198.51.100.1, 192.0.2.7"], "198.51.100.1"),
            ("10.1.2.3", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.1.2.3", &["unknown, 192.0.2.7"], "192.0.2.7"),
            ("::ffff:10.1.2.3", &["2001:db8::1", "2a00::5"], "2a00::5"),
        ];
        let clients = Clients { have_keys: false, trusted_proxies: &trusted };
        for (peer, lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", line.parse().expect("a value"));
            }
            let found = clients.address(address(peer), &headers);
            assert_eq!(found, address(expected), "{peer} {lines:?}");
        }
    }

    #[test]
    fn networks_are_addresses_or_prefixes() {
        for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::1/129", "host", "10.0.0.1/-1", "1.2.3.4/"] {
            assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
        }
        let all: AddressRange = "0.0.0.0/0".parse().expect("all of IPv4");
        assert!(all.contains(address("203.0.113.5")) && !all.contains(address("2a00::5")));
    }

    #[test]
    fn a_key_is_a_client_wherever_it_comes_from() {
        let of = |have_keys, key: &str, peer: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", format!("Bearer {key}").parse().expect("a value"));
            let mut extensions = Extensions::new();
            extensions.insert(Peer(address(peer)));
            Clients { have_keys, trusted_proxies: &[] }.key(&headers, &extensions)
        };
        assert_eq!(of(true, "a", "192.0.2.1"), of(true, "a", "192.0.2.2"));
        assert_ne!(of(true, "a", "192.0.2.1"), of(true, "b", "192.0.2.1"));
        assert_eq!(of(false, "a", "192.0.2.1"), of(false, "b", "192.0.2.1"));
        assert_ne!(of(false, "a", "192.0.2.1"), of(false, "a", "192.0.2.2"));
        assert_eq!(of(false, "a", "2a00::1:2:3:4"), of(false, "a", "2a00::5:6:7:8"));
        assert_ne!(of(false, "a", "2a00:0:0:1::1"), of(false, "a", "2a00:0:0:2::1"));
    }
}
