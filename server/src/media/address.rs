//! Which IP addresses are public, which private, and which are never fetched from.
//!
//! Must not know: names, connections, what is allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where an IP address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// On the public Internet.
    Public,
    /// On this machine or in a private network.
    Inside,
    /// Never fetched from, even if the host is allowed as a private one: cloud metadata,
    /// link-local, multicast, documentation, and addresses that embed another.
    Never,
}

/// An IPv4 network: address and prefix length.
type Net4 = (Ipv4Addr, u32);
/// An IPv6 network: address and prefix length.
type Net6 = (Ipv6Addr, u32);

const fn net4(a: u8, b: u8, c: u8, d: u8, bits: u32) -> Net4 {
    (Ipv4Addr::new(a, b, c, d), bits)
}

const fn net6(head: [u16; 4], tail: u16, bits: u32) -> Net6 {
    let [a, b, c, d] = head;
    (Ipv6Addr::new(a, b, c, d, 0, 0, 0, tail), bits)
}

/// IPv4 networks of [`Reach::Never`]; they take precedence over [`INSIDE_4`].
const NEVER_4: [Net4; 13] = [
    net4(0, 0, 0, 0, 8),          // "this network"
    net4(100, 100, 100, 200, 32), // Alibaba Cloud metadata
    net4(168, 63, 129, 16, 32),   // host of an Azure VM, at a public address
    net4(169, 254, 0, 0, 16),     // link-local, metadata of most clouds
    net4(192, 0, 0, 0, 24),       // IETF protocols, Oracle Cloud metadata
    net4(192, 0, 2, 0, 24),       // documentation
    net4(192, 88, 99, 0, 24),     // 6to4 relays
    net4(198, 18, 0, 0, 15),      // benchmarking
    net4(198, 51, 100, 0, 24),    // documentation
    net4(203, 0, 113, 0, 24),     // documentation
    net4(224, 0, 0, 0, 4),        // multicast
    net4(240, 0, 0, 0, 4),        // reserved
    net4(255, 255, 255, 255, 32), // broadcast
];

/// IPv4 networks of [`Reach::Inside`].
const INSIDE_4: [Net4; 5] = [
    net4(10, 0, 0, 0, 8),
    net4(100, 64, 0, 0, 10), // carrier-grade NAT
    net4(127, 0, 0, 0, 8),
    net4(172, 16, 0, 0, 12),
    net4(192, 168, 0, 0, 16),
];

/// The only IPv6 network with public addresses.
const GLOBAL_6: Net6 = net6([0x2000, 0, 0, 0], 0, 3);

/// Networks of [`Reach::Never`] within [`GLOBAL_6`] and [`INSIDE_6`].
const NEVER_6: [Net6; 6] = [
    net6([0x2001, 0, 0, 0], 0, 23), // IETF protocols: Teredo, benchmarking, ORCHID
    net6([0x2001, 0xdb8, 0, 0], 0, 32), // documentation
    net6([0x2002, 0, 0, 0], 0, 16), // 6to4
    net6([0x3fff, 0, 0, 0], 0, 20), // documentation
    net6([0xfd00, 0xec2, 0, 0], 0, 32), // AWS metadata
    net6([0xfd20, 0xce, 0, 0], 0, 32), // Google Cloud metadata
];

/// IPv6 networks of [`Reach::Inside`].
const INSIDE_6: [Net6; 2] = [net6([0, 0, 0, 0], 1, 128), net6([0xfc00, 0, 0, 0], 0, 7)];

/// The NAT64 prefix, by which IPv6-only networks reach IPv4.
const NAT64: Net6 = net6([0x64, 0xff9b, 0, 0], 0, 96);

impl Reach {
    /// Where an IP address is.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_4(address),
            IpAddr::V6(address) => Self::of_6(address),
        }
    }

    fn of_4(address: Ipv4Addr) -> Self {
        let within =
            |&(net, bits): &Net4| (u32::from(address) ^ u32::from(net)) >> (32 - bits) == 0;
        if NEVER_4.iter().any(within) {
            Self::Never
        } else if INSIDE_4.iter().any(within) {
            Self::Inside
        } else {
            Self::Public
        }
    }

    fn of_6(address: Ipv6Addr) -> Self {
        let within =
            |&(net, bits): &Net6| (u128::from(address) ^ u128::from(net)) >> (128 - bits) == 0;
        if let Some(mapped) = address.to_ipv4_mapped() {
            return Self::of_4(mapped);
        }
        let segments = address.segments();
        let [.., high, low] = segments;
        let last = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
        // NAT64 and ISATAP addresses embed an IPv4 address that a gateway forwards to, so that one
        // must be public.
        let carries = within(&NAT64) || segments[4] & !0x0300 == 0 && segments[5] == 0x5efe;
        if carries && Self::of_4(last) != Self::Public {
            return Self::Never;
        }
        if within(&NAT64) {
            Self::Public
        } else if NEVER_6.iter().any(within) {
            Self::Never
        } else if INSIDE_6.iter().any(within) {
            Self::Inside
        } else if within(&GLOBAL_6) {
            Self::Public
        } else {
            Self::Never
        }
    }
}
