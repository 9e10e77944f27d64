//! An address: what kind of place it is, and which IPv4 addresses hide in it.
//!
//! [`Kind`] follows the special-purpose registries (RFC 6890 and what came after it) and the addresses at
//! which clouds tell a machine its own secrets. An IPv6 address may stand for an IPv4 one in many ways
//! (mapped, translated, tunnelled); whoever forbids 10.0.0.1 means each of them, so [`faces`] gives them all.
//! Absent: any opinion; what may be connected to is [`egress`](crate::core::egress)'s.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::core::network::Network;

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A machine on the public internet.
    Public,
    /// Translated to the IPv4 address that it carries (NAT64): it is what that one is.
    Translated,
    /// This machine.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, carrier-grade NAT).
    Private,
    /// Neither private nor public: documentation, benchmarks, tunnels, reserved for later.
    Special,
    /// The services of a cloud that tell a machine about itself, its credentials included.
    Metadata,
    /// This link: neighbours, and what clouds put there.
    LinkLocal,
    /// No address at all (`0.0.0.0`, `::`), which connects to this machine.
    Unspecified,
    /// Many machines at once: multicast and broadcast.
    Many,
}

impl Kind {
    /// For people: `it is …`.
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Public => "a public address",
            Self::Translated => "an address that stands for an IPv4 one",
            Self::Loopback => "a loopback address",
            Self::Private => "a private address",
            Self::Special => "a special-purpose address",
            Self::Metadata => "a cloud's metadata address",
            Self::LinkLocal => "a link-local address",
            Self::Unspecified => "an unspecified address",
            Self::Many => "a multicast or broadcast address",
        }
    }

    /// Whether nothing is sent there unless it is named: what answers there is no endpoint.
    #[must_use]
    pub const fn is_never_meant(self) -> bool {
        matches!(self, Self::Metadata | Self::LinkLocal | Self::Unspecified | Self::Many)
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Network {
    Network::v4(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(parts: [u16; 8], prefix: u8) -> Network {
    let [a, b, c, d, e, f, g, h] = parts;
    Network::v6(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// Which network is of which kind. The first that fits counts, so what lies within another stands before it.
const KINDS_V4: [(Network, Kind); 28] = [
    (v4(169, 254, 169, 254, 32), Kind::Metadata), // nearly every cloud; metadata.google.internal
    (v4(169, 254, 170, 2, 32), Kind::Metadata),   // credentials of AWS containers
    (v4(169, 254, 170, 23, 32), Kind::Metadata),  // credentials of AWS pods
    (v4(169, 254, 42, 42, 32), Kind::Metadata),   // Scaleway
    (v4(169, 254, 0, 23, 32), Kind::Metadata),    // Tencent
    (v4(169, 254, 10, 10, 32), Kind::Metadata),   // Tencent
    (v4(100, 100, 100, 200, 32), Kind::Metadata), // Alibaba
    (v4(168, 63, 129, 16, 32), Kind::Metadata),   // Azure
    (v4(192, 0, 0, 192, 32), Kind::Metadata),     // Oracle, the older one
    (v4(0, 0, 0, 0, 8), Kind::Unspecified),
    (v4(10, 0, 0, 0, 8), Kind::Private),
    (v4(100, 64, 0, 0, 10), Kind::Private),
    (v4(127, 0, 0, 0, 8), Kind::Loopback),
    (v4(169, 254, 0, 0, 16), Kind::LinkLocal),
    (v4(172, 16, 0, 0, 12), Kind::Private),
    (v4(192, 0, 0, 9, 32), Kind::Public), // anycast, globally reachable
    (v4(192, 0, 0, 10, 32), Kind::Public),
    (v4(192, 0, 0, 0, 24), Kind::Special),
    (v4(192, 0, 2, 0, 24), Kind::Special),
    (v4(192, 88, 99, 0, 24), Kind::Special),
    (v4(192, 168, 0, 0, 16), Kind::Private),
    (v4(198, 18, 0, 0, 15), Kind::Special),
    (v4(198, 51, 100, 0, 24), Kind::Special),
    (v4(203, 0, 113, 0, 24), Kind::Special),
    (v4(224, 0, 0, 0, 4), Kind::Many),
    (v4(255, 255, 255, 255, 32), Kind::Many),
    (v4(240, 0, 0, 0, 4), Kind::Special),
    (v4(0, 0, 0, 0, 0), Kind::Public),
];

/// The same for IPv6, where nothing is public but what lies in 2000::/3.
const KINDS_V6: [(Network, Kind); 25] = [
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), Kind::Metadata), // AWS: metadata, credentials of pods, DNS, time
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Kind::Metadata), // Google
    (v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), Kind::Metadata), // Oracle
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), Kind::Metadata), // Scaleway
    (v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128), Kind::Metadata), // Linode
    (v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128), Kind::Metadata), // Alibaba
    (v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), Kind::Metadata), // OpenStack
    (v6([0; 8], 128), Kind::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Kind::Loopback),
    (NAT64, Kind::Translated),
    (NAT64_LOCAL, Kind::Translated),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Kind::Private),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Kind::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Kind::Private), // site-local, as it was
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Kind::Many),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), Kind::Public), // anycast, globally reachable
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128), Kind::Public),
    (v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32), Kind::Public),
    (v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), Kind::Public),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Kind::Special), // Teredo among them
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Kind::Special),
    (SIX_TO_FOUR, Kind::Special),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Kind::Special),
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Kind::Public),
    (v6([0; 8], 0), Kind::Special),
];

/// IPv4 behind a translator, by the well-known prefix (RFC 6052).
const NAT64: Network = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);
/// The same by prefixes of one's own choice within this one (RFC 8215).
const NAT64_LOCAL: Network = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);
/// 6to4 (RFC 3056).
const SIX_TO_FOUR: Network = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
/// Teredo (RFC 4380).
const TEREDO: Network = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);
/// IPv4-compatible (RFC 4291, deprecated); `::` and `::1` are none.
const COMPATIBLE: Network = v6([0; 8], 96);
/// IPv4-translated (RFC 2765).
const SIIT: Network = v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96);

/// The address that is a URL's host, as its parser writes it; `None` if that is a name.
///
/// The parser has made one spelling of all there are: decimal, octal, hexadecimal, shortened.
#[must_use]
pub fn of_host(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// The address that is really dialled: an IPv4-mapped one is its IPv4 address.
#[must_use]
pub const fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The kind of an address, of this one alone: what it carries is in [`faces`].
#[must_use]
pub fn kind(address: IpAddr) -> Kind {
    let address = canonical(address);
    let kinds: &[(Network, Kind)] = if address.is_ipv4() { &KINDS_V4 } else { &KINDS_V6 };
    let found = kinds.iter().find(|(network, _)| network.contains(address));
    found.map_or(Kind::Special, |(_, kind)| *kind)
}

/// The address, canonical, and every IPv4 address that it may stand for.
#[must_use]
pub fn faces(address: IpAddr) -> Vec<IpAddr> {
    let address = canonical(address);
    let mut faces = vec![address];
    if let IpAddr::V6(six) = address {
        embedded(six, |four| {
            if !faces.contains(&IpAddr::V4(four)) {
                faces.push(IpAddr::V4(four));
            }
        });
    }
    faces
}

/// Tells `found` of each IPv4 address in `six`.
fn embedded(six: Ipv6Addr, mut found: impl FnMut(Ipv4Addr)) {
    let address = IpAddr::V6(six);
    let [_, _, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15] = six.octets();
    let last = Ipv4Addr::new(b12, b13, b14, b15);
    if NAT64.contains(address) || SIIT.contains(address) {
        found(last);
    }
    if COMPATIBLE.contains(address) && !matches!(kind(address), Kind::Unspecified | Kind::Loopback) {
        found(last);
    }
    if SIX_TO_FOUR.contains(address) {
        found(Ipv4Addr::new(b2, b3, b4, b5));
    }
    if TEREDO.contains(address) {
        found(Ipv4Addr::new(b4, b5, b6, b7)); // the server
        found(Ipv4Addr::new(!b12, !b13, !b14, !b15)); // the client
    }
    if NAT64_LOCAL.contains(address) {
        // Which of RFC 6052's layouts it is cannot be seen. What would begin with a 0 in one is meant in another.
        let layouts =
            [Ipv4Addr::new(b6, b7, b9, b10), Ipv4Addr::new(b7, b9, b10, b11), Ipv4Addr::new(b9, b10, b11, b12), last];
        layouts.into_iter().filter(|four| four.octets().first() != Some(&0)).for_each(&mut found);
        if layouts.iter().all(|four| four.octets().first() == Some(&0)) {
            found(last);
        }
    }
    // ISATAP (RFC 5214): in the interface's id, under any prefix.
    if matches!([b8, b9, b10, b11], [0 | 2, 0, 0x5e, 0xfe]) {
        found(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_special_network_is_known_from_its_first_to_its_last_address() {
        let table: [(&str, &str, Kind); 37] = [
            ("0.0.0.0", "0.255.255.255", Kind::Unspecified),
            ("1.0.0.0", "9.255.255.255", Kind::Public),
            ("10.0.0.0", "10.255.255.255", Kind::Private),
            ("11.0.0.0", "100.63.255.255", Kind::Public),
            ("100.64.0.0", "100.100.100.199", Kind::Private),
            ("100.100.100.200", "100.100.100.200", Kind::Metadata),
            ("100.100.100.201", "100.127.255.255", Kind::Private),
            ("100.128.0.0", "126.255.255.255", Kind::Public),
            ("127.0.0.0", "127.255.255.255", Kind::Loopback),
            ("168.63.129.16", "168.63.129.16", Kind::Metadata),
            ("169.254.0.0", "169.254.0.22", Kind::LinkLocal),
            ("169.254.169.254", "169.254.169.254", Kind::Metadata),
            ("169.254.170.2", "169.254.170.2", Kind::Metadata),
            ("169.254.255.255", "169.254.255.255", Kind::LinkLocal),
            ("169.255.0.0", "172.15.255.255", Kind::Public),
            ("172.16.0.0", "172.31.255.255", Kind::Private),
            ("172.32.0.0", "191.255.255.255", Kind::Public),
            ("192.0.0.0", "192.0.0.8", Kind::Special),
            ("192.0.0.192", "192.0.0.192", Kind::Metadata),
            ("192.168.0.0", "192.168.255.255", Kind::Private),
            ("198.18.0.0", "198.19.255.255", Kind::Special),
            ("203.0.113.0", "203.0.113.255", Kind::Special),
            ("224.0.0.0", "239.255.255.255", Kind::Many),
            ("240.0.0.0", "255.255.255.254", Kind::Special),
            ("255.255.255.255", "255.255.255.255", Kind::Many),
            ("::", "::", Kind::Unspecified),
            ("::1", "::1", Kind::Loopback),
            ("64:ff9b::", "64:ff9b::ffff:ffff", Kind::Translated),
            ("2000::", "2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Kind::Public),
            ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Kind::Special),
            ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Kind::Special),
            ("4000::", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Kind::Special),
            ("fc00::", "fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Kind::Private),
            ("fd00:ec2::", "fd00:ec2:ffff:ffff:ffff:ffff:ffff:ffff", Kind::Metadata),
            ("fd00:ec3::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Kind::Private),
            ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Kind::Private),
            ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Kind::Many),
        ];
        for (first, last, expected) in table {
            assert_eq!(kind(address(first)), expected, "{first}");
            assert_eq!(kind(address(last)), expected, "{last}");
        }
        for (text, expected) in [
            ("fe80::1", Kind::LinkLocal),
            ("fe80::a9fe:a9fe", Kind::Metadata),
            ("fd20:ce::254", Kind::Metadata),
            ("2001::1", Kind::Special),
            ("2606:4700::1111", Kind::Public),
            ("::ffff:10.0.0.1", Kind::Private),
            ("::ffff:8.8.8.8", Kind::Public),
            ("::ffff:169.254.169.254", Kind::Metadata),
        ] {
            assert_eq!(kind(address(text)), expected, "{text}");
        }
    }

    #[test]
    fn every_way_to_carry_an_ipv4_address_is_seen_through() {
        let carriers = [
            "::ffff:10.1.2.3",              // mapped
            "::10.1.2.3",                   // compatible
            "::ffff:0:10.1.2.3",            // translated
            "64:ff9b::10.1.2.3",            // NAT64
            "64:ff9b:1::10.1.2.3",          // NAT64 of one's own: /96
            "64:ff9b:1:a01:2:300::",        // the same: /48
            "64:ff9b:1:aa0a:1:203::",       // the same: /56
            "64:ff9b:1:aaaa:a:102:300::",   // the same: /64
            "2002:a01:203::1",              // 6to4
            "2001:0:808:808:0:0:f5fe:fdfc", // Teredo's client, its bits flipped
            "2001:0:a01:203:0:0:f7f7:f7f7", // Teredo's server
            "2606:4700::5efe:10.1.2.3",     // ISATAP
            "2606:4700::200:5efe:10.1.2.3", // ISATAP, of a public address
            "fe80::5efe:10.1.2.3",
        ];
        for carrier in carriers {
            let faces = faces(address(carrier));
            assert!(faces.contains(&address("10.1.2.3")), "{carrier}: {faces:?}");
        }
    }

    #[test]
    fn what_carries_nothing_has_one_face() {
        for text in ["10.0.0.1", "8.8.8.8", "::", "::1", "2606:4700::1111", "fe80::1", "fd00::a00:1"] {
            assert_eq!(faces(address(text)), [address(text)], "{text}");
        }
        assert_eq!(faces(address("::ffff:127.0.0.1")), [address("127.0.0.1")]);
        assert_eq!(faces(address("64:ff9b:1::8.8.8.8")), [address("64:ff9b:1::808:808"), address("8.8.8.8")]);
    }

    proptest! {
        #[test]
        fn every_address_has_a_kind_and_itself_as_its_first_face(bits: u128) {
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
            let faces = faces(address);
            prop_assert_eq!(faces[0], canonical(address));
            prop_assert!(faces.iter().skip(1).all(IpAddr::is_ipv4));
            let _kind = kind(address);
        }

        #[test]
        fn the_registry_of_the_standard_library_agrees(bits: u32) {
            let four = Ipv4Addr::from_bits(bits);
            let kind = kind(IpAddr::V4(four));
            prop_assert_eq!(four.is_loopback(), kind == Kind::Loopback);
            prop_assert!(!four.is_private() || kind == Kind::Private);
            prop_assert!(!four.is_link_local() || matches!(kind, Kind::LinkLocal | Kind::Metadata));
            prop_assert_eq!(four.is_multicast() || four.is_broadcast(), kind == Kind::Many);
            prop_assert!(!four.is_documentation() || kind == Kind::Special);
        }
    }
}
