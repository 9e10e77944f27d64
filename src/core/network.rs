//! A network: an address, or all addresses that begin alike, written `10.0.0.0/8` or `fd00::/8`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses of one family that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Why a text is not a [`Network`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkError {
    /// It is neither an address nor an address and the length of a prefix.
    Shape,
    /// The prefix is longer than an address.
    Prefix,
    /// Bits are set behind the prefix; the network that has them.
    HostBits(Network),
}

impl Network {
    /// The network of IPv4 addresses that share the first `prefix` bits with `address`.
    #[must_use]
    pub const fn v4(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = if prefix < 32 { prefix } else { 32 };
        Self { first: IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask_v4(prefix))), prefix }
    }

    /// The network of IPv6 addresses that share the first `prefix` bits with `address`.
    #[must_use]
    pub const fn v6(address: Ipv6Addr, prefix: u8) -> Self {
        let prefix = if prefix < 128 { prefix } else { 128 };
        Self { first: IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask_v6(prefix))), prefix }
    }

    /// The network that `address` alone makes.
    #[must_use]
    pub const fn one(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::v4(address, 32),
            IpAddr::V6(address) => Self::v6(address, 128),
        }
    }

    /// What one customer of a provider has, for counting who asks too much: an IPv4 address, or the /64 around an IPv6
    /// one (RFC 6177), in which whoever has one address has them all.
    #[must_use]
    pub const fn of_customer(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::v4(address, 32),
            IpAddr::V6(address) => Self::v6(address, 64),
        }
    }

    /// IPv4-mapped addresses are IPv4 addresses, however the network is written.
    fn canonical(self) -> Self {
        match self.first.to_canonical() {
            IpAddr::V4(first) if self.first.is_ipv6() && self.prefix >= 96 => Self::v4(first, self.prefix - 96),
            _ => self,
        }
    }

    /// The lowest of its addresses.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest of its addresses.
    #[must_use]
    pub const fn last(&self) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() | !mask_v4(self.prefix))),
            IpAddr::V6(first) => IpAddr::V6(Ipv6Addr::from_bits(first.to_bits() | !mask_v6(self.prefix))),
        }
    }

    /// Whether `address` is one of them. An address of the other family never is, however it is written.
    #[must_use]
    pub const fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => address.to_bits() & mask_v4(self.prefix) == first.to_bits(),
            (IpAddr::V6(first), IpAddr::V6(address)) => address.to_bits() & mask_v6(self.prefix) == first.to_bits(),
            _ => false,
        }
    }
}

/// The first `prefix` bits.
const fn mask_v4(prefix: u8) -> u32 {
    match u32::MAX.checked_shl(32 - prefix as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

/// The first `prefix` bits.
const fn mask_v6(prefix: u8) -> u128 {
    match u128::MAX.checked_shl(128 - prefix as u32) {
        Some(mask) => mask,
        None => 0,
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Shape)?;
        let Some(prefix) = prefix else { return Ok(Self::one(address)) };
        let is_plain = !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix: u16 = prefix.parse().ok().filter(|_| is_plain).ok_or(NetworkError::Shape)?;
        let prefix = u8::try_from(prefix).map_err(|_| NetworkError::Prefix)?;
        let network = match address {
            IpAddr::V4(address) if prefix <= 32 => Self::v4(address, prefix),
            IpAddr::V6(address) if prefix <= 128 => Self::v6(address, prefix),
            _ => return Err(NetworkError::Prefix),
        };
        if network.first == address { Ok(network.canonical()) } else { Err(NetworkError::HostBits(network)) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.first.is_ipv4() { 32 } else { 128 };
        if self.prefix == whole { write!(f, "{}", self.first) } else { write!(f, "{}/{}", self.first, self.prefix) }
    }
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => {
                f.write_str("not a network; write an address or a prefix, like \"10.0.0.7\" or \"10.0.0.0/8\"")
            }
            Self::Prefix => f.write_str("the prefix is longer than the address: at most /32, for IPv6 /128"),
            Self::HostBits(network) => write!(f, "has bits set behind its prefix; the network is {network}"),
        }
    }
}

impl std::error::Error for NetworkError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_written_as_they_are_read() {
        for text in ["10.0.0.0/8", "10.0.0.7", "0.0.0.0/0", "::/0", "fd00::/8", "::1", "64:ff9b::/96", "224.0.0.0/4"] {
            assert_eq!(network(text).to_string(), text);
        }
        assert_eq!(network("10.0.0.7/32"), network("10.0.0.7"));
        assert_eq!(network("::1/128"), network("::1"));
        assert_eq!(network("::ffff:10.0.0.0/104"), network("10.0.0.0/8"));
        assert_eq!(network("::ffff:10.0.0.7"), network("10.0.0.7"));
    }

    #[test]
    fn what_is_no_network_is_refused_and_the_error_says_what_to_write() {
        for bad in
            ["", "10", "10.0.0.0/", "10.0.0.0/x", "10.0.0.0/+8", "10.0.0.0/0008", "/8", "010.0.0.0/8", "fe80::1%eth0"]
        {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError::Shape), "{bad}");
        }
        for bad in ["10.0.0.0/33", "::/129", "::/999", "10.0.0.0/256"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError::Prefix), "{bad}");
        }
        let error = "10.0.3.7/8".parse::<Network>().unwrap_err();
        assert!(error.to_string().ends_with("10.0.0.0/8"), "{error}");
    }

    #[test]
    fn a_customer_has_an_address_or_a_slash_64() {
        let table = [
            ("10.0.0.7", "10.0.0.7"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
            ("2001:db8:0:1:ffff::2", "2001:db8:0:1::/64"),
            ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ];
        for (of, expected) in table {
            assert_eq!(Network::of_customer(address(of)), network(expected), "{of}");
        }
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        let table = [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "ffff::", true),
            ("::/0", "127.0.0.1", false),
            ("fe80::/10", "febf::1", true),
            ("fe80::/10", "fec0::1", false),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.8", false),
        ];
        for (of, address, expected) in table {
            assert_eq!(network(of).contains(address.parse().unwrap()), expected, "{address} in {of}");
        }
        assert_eq!(
            (network("10.0.0.0/8").first(), network("10.0.0.0/8").last()),
            (address("10.0.0.0"), address("10.255.255.255"))
        );
        assert_eq!(network("::/0").last(), address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
        assert_eq!(network("10.0.0.7").last(), address("10.0.0.7"));
    }

    proptest! {
        #[test]
        fn a_network_contains_an_address_if_and_only_if_the_first_bits_agree(one: u128, other: u128, prefix in 0u8..=128) {
            let agree = prefix == 0 || (one ^ other).leading_zeros() >= u32::from(prefix);
            let of = Network::v6(Ipv6Addr::from_bits(one), prefix);
            prop_assert_eq!(of.contains(IpAddr::V6(Ipv6Addr::from_bits(other))), agree);
            prop_assert_eq!(of.to_string().parse(), Ok(of));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "[0-9a-f:./%]{0,24}") {
            let _read = text.parse::<Network>().is_ok();
        }
    }
}
