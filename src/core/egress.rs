//! Egress: which addresses may be connected to.
//!
//! A [`Policy`] judges an address by every face it has (see [`address`](crate::core::address)), in this order:
//! 1. what `deny` names is refused, and nothing opens it again;
//! 2. what is never meant (metadata services, link-local, unspecified, multicast, broadcast) is refused, unless
//!    `allow` names it by itself, not by a wide network that happens to have it;
//! 3. what `allow` names is allowed;
//! 4. the rest is judged by the [`Reach`]: anything, the public internet, or nothing.
//!
//! All faces must pass, so no way to write an address opens what another way closes. Absent: names, which become
//! addresses at the edge, at every dial; and ports, of which only the gateway's own admin listener has one.

use std::fmt;
use std::net::IpAddr;

use crate::core::address::{Kind, faces, kind};
use crate::core::network::Network;

/// How far connections go where no list says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Reach {
    /// Anywhere, private networks and this machine included: where a self-hosted gateway's endpoints are.
    #[default]
    Private,
    /// To the public internet only.
    Public,
    /// Nowhere but to what is listed.
    Listed,
}

/// Which addresses may be connected to. The default is that of a self-hosted gateway.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Policy {
    /// Where no list says anything.
    pub reach: Reach,
    /// Allowed whatever the reach.
    pub allow: Vec<Network>,
    /// Refused whatever else is said.
    pub deny: Vec<Network>,
    /// Whether this gateway's own admin listener may be connected to.
    pub admin: bool,
}

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// This network is on the list of what is denied.
    Denied(Network),
    /// Nobody means such a place, unless it is named.
    NeverMeant(Kind),
    /// It is not on the public internet, and only that is allowed.
    NotPublic(Kind),
    /// It is not on the list of what is allowed, and only that is.
    NotListed,
    /// It is this gateway's own admin listener.
    Admin,
}

impl Reach {
    /// Every reach.
    pub const ALL: [Self; 3] = [Self::Private, Self::Public, Self::Listed];

    /// The word used in the config.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
            Self::Listed => "listed",
        }
    }
}

impl Policy {
    /// Whether `address` may be connected to.
    ///
    /// # Errors
    /// The first [`Refusal`] of one of its faces.
    pub fn judge(&self, address: IpAddr) -> Result<(), Refusal> {
        let faces = faces(address);
        // What is translated is what it carries: where that passes there is nothing else to be said of it.
        let carries = faces.len() > 1;
        faces.into_iter().try_for_each(|face| self.judge_face(face, carries && kind(face) == Kind::Translated))
    }

    fn judge_face(&self, face: IpAddr, is_translated: bool) -> Result<(), Refusal> {
        let kind = kind(face);
        if let Some(network) = self.deny.iter().find(|network| network.contains(face)) {
            return Err(Refusal::Denied(*network));
        }
        let mut allowing = self.allow.iter().filter(|network| network.contains(face));
        if kind.is_never_meant() {
            let is_named = allowing.any(|network| names(network, kind));
            return if is_named { Ok(()) } else { Err(Refusal::NeverMeant(kind)) };
        }
        if is_translated || allowing.next().is_some() {
            return Ok(());
        }
        match self.reach {
            Reach::Private => Ok(()),
            Reach::Public if kind == Kind::Public => Ok(()),
            Reach::Public => Err(Refusal::NotPublic(kind)),
            Reach::Listed => Err(Refusal::NotListed),
        }
    }

    /// The same for a proxy, which is this operator's own and no endpoint: how far endpoints may be does not
    /// matter, all else does.
    #[must_use]
    pub fn of_proxy(&self) -> Self {
        Self { reach: Reach::Private, ..self.clone() }
    }
}

/// Whether a network was meant to name something of this kind: it begins and ends with it.
fn names(network: &Network, kind: Kind) -> bool {
    self::kind(network.first()) == kind && self::kind(network.last()) == kind
}

impl fmt::Display for Refusal {
    /// What stands behind "127.0.0.1 …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(network) => write!(f, "is in {network}, which egress denies"),
            Self::NeverMeant(kind) => {
                write!(f, "is {}, which egress refuses unless its list `allow` names it", kind.phrase())
            }
            Self::NotPublic(kind) => {
                write!(f, "is {}, and egress is \"public\"; its list `allow` can name it", kind.phrase())
            }
            Self::NotListed => f.write_str("is not in egress's list `allow`, and egress is \"listed\""),
            Self::Admin => f.write_str(
                "is this gateway's own admin listener, which egress refuses unless its list `allow` says \"admin\"",
            ),
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn policy(reach: Reach, allow: &[&str], deny: &[&str]) -> Policy {
        Policy { reach, allow: networks(allow), deny: networks(deny), admin: false }
    }

    /// Whether each address passes: `+` those that do, then those that do not.
    #[track_caller]
    fn assert_judged(policy: &Policy, pass: &[&str], refused: &[&str]) {
        for text in pass {
            assert_eq!(policy.judge(text.parse().unwrap()), Ok(()), "{text} by {policy:?}");
        }
        for text in refused {
            assert!(policy.judge(text.parse().unwrap()).is_err(), "{text} by {policy:?}");
        }
    }

    /// What no policy allows by itself, in every spelling an address has.
    const NEVER: [&str; 26] = [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::169.254.169.254",
        "64:ff9b:1:a9fe:a9:fe00::",
        "2002:a9fe:a9fe::1",
        "2001:0:808:808:0:0:5601:5601",
        "2001:0:a9fe:a9fe:0:0:f7f7:f7f7",
        "2606:4700::5efe:169.254.169.254",
        "fd00:ec2::254",
        "fd20:ce::254",
        "100.100.100.200",
        "64:ff9b::100.100.100.200",
        "168.63.129.16",
        "169.254.0.1",
        "fe80::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "::ffff:0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "ff02::1",
        "64:ff9b::255.255.255.255",
    ];

    #[test]
    fn private_reaches_everything_that_can_be_meant() {
        let here = ["127.0.0.1", "::1", "10.0.0.1", "192.168.1.1", "fd00::1", "8.8.8.8", "2606:4700::1111"];
        let carried = ["::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1", "2002:a00:1::1", "240.0.0.1"];
        assert_judged(&Policy::default(), &[&here[..], &carried[..]].concat(), &NEVER);
    }

    #[test]
    fn public_reaches_the_public_internet_only() {
        let public = policy(Reach::Public, &[], &[]);
        let pass = ["8.8.8.8", "::ffff:8.8.8.8", "2606:4700::1111", "64:ff9b::8.8.8.8", "64:ff9b:1::8.8.8.8"];
        let inside = [
            "127.0.0.1",
            "127.255.0.9",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::127.0.0.1",
            "64:ff9b:1:7f00:0:100::",
            "2002:7f00:1::",
            "2001:0:808:808:0:0:80ff:fffe",
            "2606:4700::5efe:10.0.0.1",
            "10.0.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "203.0.113.9",
            "240.0.0.1",
            "fd00::1",
            "fec0::1",
            "2001:db8::1",
            "2002:808:808::1", // even of a public address: nobody has had one for years
            "4000::1",
        ];
        assert_judged(&public, &pass, &[&inside[..], &NEVER[..]].concat());
    }

    #[test]
    fn listed_reaches_what_is_listed_only_and_whatever_carries_it() {
        let listed = policy(Reach::Listed, &["10.1.0.0/16", "2606:4700::/32"], &[]);
        let pass = ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "2606:4700::1"];
        let other =
            ["10.2.0.1", "8.8.8.8", "127.0.0.1", "64:ff9b::10.2.0.1", "2002:a01:203::", "2606:4700::5efe:8.8.8.8"];
        assert_judged(&listed, &pass, &[&other[..], &NEVER[..]].concat());
        assert_judged(&policy(Reach::Listed, &[], &[]), &[], &["8.8.8.8", "127.0.0.1"]);
    }

    #[test]
    fn a_denied_network_stays_denied_by_any_spelling() {
        let denied = policy(Reach::Private, &["10.0.0.0/8", "::/0"], &["10.0.3.0/24"]);
        let spellings = ["10.0.3.7", "::ffff:10.0.3.7", "64:ff9b::10.0.3.7", "2002:a00:307::", "::10.0.3.7"];
        assert_judged(&denied, &["10.0.4.7", "8.8.8.8"], &spellings);
        assert_eq!(
            denied.judge("64:ff9b::a00:307".parse().unwrap()),
            Err(Refusal::Denied("10.0.3.0/24".parse().unwrap()))
        );
    }

    #[test]
    fn what_is_never_meant_is_opened_by_its_own_name_and_no_wider_one() {
        for wide in ["0.0.0.0/0", "169.254.0.0/15", "160.0.0.0/4", "100.64.0.0/10", "fd00::/8", "::/0", "fe00::/7"] {
            assert_judged(&policy(Reach::Listed, &[wide], &[]), &[], &NEVER);
        }
        let link = policy(Reach::Public, &["169.254.0.0/16", "fe80::/10"], &[]);
        assert_judged(&link, &["169.254.7.7", "fe80::1"], &["169.254.169.254", "fe80::a9fe:a9fe", "10.0.0.1"]);
        let metadata = policy(Reach::Public, &["169.254.169.254", "fd00:ec2::254"], &[]);
        assert_judged(&metadata, &["169.254.169.254", "fd00:ec2::254"], &["169.254.170.2", "fd00:ec2::23"]);
        let both = policy(Reach::Public, &["169.254.169.254"], &["169.254.0.0/16"]);
        assert_judged(&both, &[], &["169.254.169.254"]);
    }

    #[test]
    fn an_allowed_carrier_does_not_open_what_it_carries() {
        let carrier = policy(Reach::Public, &["64:ff9b::/96", "2002::/16", "::/96"], &[]);
        assert_judged(&carrier, &["64:ff9b::8.8.8.8"], &["64:ff9b::10.0.0.1", "2002:a9fe:a9fe::", "::10.0.0.1"]);
    }

    #[test]
    fn a_proxy_may_be_near_but_not_what_is_denied_or_never_meant() {
        let proxy = policy(Reach::Public, &[], &["10.0.3.0/24"]).of_proxy();
        assert_judged(&proxy, &["127.0.0.1", "10.0.0.1", "8.8.8.8"], &["10.0.3.1", "169.254.169.254"]);
    }

    #[test]
    fn a_refusal_says_which_setting_is_meant() {
        let said = |policy: &Policy, text: &str| policy.judge(text.parse().unwrap()).unwrap_err().to_string();
        let public = policy(Reach::Public, &[], &["10.0.0.0/8"]);
        assert!(said(&public, "127.0.0.1").contains("a loopback address, and egress is \"public\""));
        assert!(said(&public, "10.0.0.1").contains("10.0.0.0/8, which egress denies"));
        assert!(said(&public, "169.254.169.254").contains("a cloud's metadata address"));
        assert!(said(&policy(Reach::Listed, &[], &[]), "8.8.8.8").contains("\"listed\""));
    }

    fn any_policy() -> impl Strategy<Value = Policy> {
        let network = prop_oneof![
            (any::<u32>(), 0u8..=32).prop_map(|(bits, prefix)| Network::v4(Ipv4Addr::from_bits(bits), prefix)),
            (any::<u128>(), 0u8..=128).prop_map(|(bits, prefix)| Network::v6(Ipv6Addr::from_bits(bits), prefix)),
        ];
        let reach = prop::sample::select(Reach::ALL.to_vec());
        let lists = (prop::collection::vec(network.clone(), 0..4), prop::collection::vec(network, 0..4));
        (reach, lists).prop_map(|(reach, (allow, deny))| Policy { reach, allow, deny, admin: false })
    }

    proptest! {
        /// No spelling passes that the IPv4 address itself would not.
        #[test]
        fn a_spelling_passes_only_if_the_address_does(bits: u32, policy in any_policy()) {
            let four = Ipv4Addr::from_bits(bits);
            let [a, b, c, d] = four.octets();
            let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
            let spellings = [
                Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
                Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0x5efe, high, low),
            ];
            if policy.judge(IpAddr::V4(four)).is_err() {
                for six in spellings {
                    prop_assert!(policy.judge(IpAddr::V6(six)).is_err(), "{} stands for {}", six, four);
                }
            }
        }

        #[test]
        fn what_is_denied_never_passes(bits: u128, prefix in 0u8..=128, policy in any_policy()) {
            let address = Ipv6Addr::from_bits(bits);
            let mut policy = policy;
            policy.deny.push(Network::v6(address, prefix));
            let is_mapped = address.to_ipv4_mapped().is_some();
            prop_assert!(is_mapped || policy.judge(IpAddr::V6(address)).is_err());
        }
    }
}
