//! The guard: what stands between an attempt and the network.
//!
//! It knows two doors. [`Guard::check`] judges the host of a parsed URL that is an address in any spelling (the
//! HTTP client never asks a resolver for those); [`Resolver`] judges what a name turns out to be, and the client
//! dials nothing but what it gives: so the address judged is the address dialled, whatever the name becomes in
//! the next moment. Of a name with several addresses those that are allowed are dialled: whoever controls the
//! name gains nothing by adding one that is not, and an honest name keeps working.
//!
//! The gateway's own admin listener is refused at the address and port that it is really bound to; where that is
//! every address of the machine, at every one that can be bound here. Not known, and so not refused: addresses
//! under which others reach this machine (a translator, a proxy, a load balancer).

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::core::address::{faces, of_host};
use crate::core::egress::{Policy, Refusal};

/// The addresses of a name, or why there are none.
pub type Found = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Turns names into addresses.
pub trait Lookup: Send + Sync + 'static {
    /// Every address of `name`.
    fn lookup(&self, name: &str) -> Found;
}

/// Asks the system's resolver, which knows /etc/hosts and caches as it is told to.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemLookup;

/// Judges every dial. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    lookup: Arc<dyn Lookup>,
    /// Where the gateway's own admin listener is bound.
    admin: Option<SocketAddr>,
}

/// Answers every name that is dialled, with the addresses that pass.
#[derive(Clone)]
pub struct Resolver {
    guard: Guard,
    policy: Arc<Policy>,
    /// The port that will be dialled, where it is one that matters.
    port: Option<u16>,
}

/// A name that could not be turned into an address.
#[derive(Debug)]
pub struct DnsError {
    name: String,
    cause: Option<io::Error>,
}

/// A place that may not be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// The name that led there, if one did.
    name: Option<String>,
    address: IpAddr,
    refusal: Refusal,
}

impl Lookup for SystemLookup {
    fn lookup(&self, name: &str) -> Found {
        let name = name.to_owned();
        Box::pin(async move {
            // The client puts the URL's port in place of the 0.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

impl Default for Guard {
    /// One that asks the system, of a gateway without an admin listener.
    fn default() -> Self {
        Self::new(Arc::new(SystemLookup), None)
    }
}

impl Guard {
    /// A guard that has names looked up by `lookup`, of a gateway whose admin listener is bound to `admin`.
    #[must_use]
    pub fn new(lookup: Arc<dyn Lookup>, admin: Option<SocketAddr>) -> Self {
        Self { lookup, admin }
    }

    /// Judges the host of `url` if it is an address. A name passes: it is judged when it has become one.
    ///
    /// # Errors
    /// [`Denied`] if `policy` refuses the address.
    pub fn check(&self, url: &Url, policy: &Policy) -> Result<(), Denied> {
        let Some(address) = literal(url) else { return Ok(()) };
        let judged = self.judge(policy, address, url.port_or_known_default());
        judged.map_err(|refusal| Denied { name: None, address, refusal })
    }

    /// Who answers the names dialled under `policy`. `watches_port`: they are dialled at the admin listener's port.
    #[must_use]
    pub fn resolver(&self, policy: Arc<Policy>, watches_port: bool) -> Resolver {
        let port = self.admin.map(|admin| admin.port()).filter(|_| watches_port);
        Resolver { guard: self.clone(), policy, port }
    }

    /// Whether `url` leads to the port of the admin listener, on whatever machine.
    #[must_use]
    pub fn is_admin_port(&self, url: &Url) -> bool {
        self.admin.is_some_and(|admin| url.port_or_known_default() == Some(admin.port()))
    }

    fn judge(&self, policy: &Policy, address: IpAddr, port: Option<u16>) -> Result<(), Refusal> {
        policy.judge(address)?;
        let is_admin = !policy.admin
            && port.is_some()
            && self.admin.is_some_and(|admin| {
                port == Some(admin.port()) && faces(address).into_iter().any(|face| is_bound(admin.ip(), face))
            });
        if is_admin { Err(Refusal::Admin) } else { Ok(()) }
    }
}

fn literal(url: &Url) -> Option<IpAddr> {
    url.host_str().and_then(of_host)
}

/// Whether a listener bound to `listener` takes what is sent to `address`.
fn is_bound(listener: IpAddr, address: IpAddr) -> bool {
    let listener = listener.to_canonical();
    listener == address || (listener.is_unspecified() && is_local(address))
}

/// Whether `address` is one of this machine's now. What cannot be told counts as one.
fn is_local(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_bound) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let allowed = resolver.allowed(name.as_str()).await?;
            Ok(Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

impl Resolver {
    /// The addresses of `name` that may be dialled, at least one.
    async fn allowed(&self, name: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let failed = |cause| DnsError { name: name.to_owned(), cause };
        let found = self.guard.lookup.lookup(name).await.map_err(|error| failed(Some(error)))?;
        let mut allowed = Vec::with_capacity(found.len());
        let mut denied = None;
        for address in found {
            match self.guard.judge(&self.policy, address, self.port) {
                Ok(()) => allowed.push(address),
                Err(refusal) => {
                    tracing::debug!(name, %address, %refusal, "an address of this name is not dialled");
                    denied.get_or_insert(Denied { name: Some(name.to_owned()), address, refusal });
                }
            }
        }
        match denied {
            _ if !allowed.is_empty() => Ok(allowed),
            Some(denied) => Err(denied.into()),
            None => Err(failed(None).into()),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("admin", &self.admin).finish_non_exhaustive()
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            Some(cause) => write!(f, "{} cannot be resolved: {cause}", self.name),
            None => write!(f, "{} has no address", self.name),
        }
    }
}

impl std::error::Error for DnsError {}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "not allowed: {name} leads to {}, which {}", self.address, self.refusal),
            None => write!(f, "not allowed: {} {}", self.address, self.refusal),
        }
    }
}

impl std::error::Error for Denied {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lookup that finds these.
    struct Answers(Vec<IpAddr>);

    impl Lookup for Answers {
        fn lookup(&self, _name: &str) -> Found {
            let found = self.0.clone();
            Box::pin(async move { Ok(found) })
        }
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn public() -> Policy {
        Policy { reach: crate::core::egress::Reach::Public, ..Policy::default() }
    }

    async fn allowed(found: &[&str], policy: Policy, admin: Option<&str>) -> Result<Vec<IpAddr>, String> {
        let found = found.iter().map(|text| text.parse().unwrap()).collect();
        let guard = Guard::new(Arc::new(Answers(found)), admin.map(|text| text.parse().unwrap()));
        guard.resolver(Arc::new(policy), true).allowed("name.test").await.map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_is_found_in_every_spelling_and_a_name_is_none() {
        let loopback = [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.01/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http://%31%32%37.0.0.1/",
            "http://127。0。0。1/",
            "http://１２７.0.0.1/",
            "http://user@127.0.0.1/",
        ];
        for text in loopback {
            assert_eq!(literal(&url(text)), Some(IpAddr::from([127, 0, 0, 1])), "{text}");
        }
        assert_eq!(literal(&url("http://[::ffff:7f00:1]/")), Some("::ffff:127.0.0.1".parse().unwrap()));
        for name in ["http://localhost/", "http://127.0.0.1.example.com/", "http://0x7f.example/"] {
            assert_eq!(literal(&url(name)), None, "{name}");
        }
    }

    #[test]
    fn a_literal_is_judged_by_the_policy() {
        let guard = Guard::default();
        for text in ["http://127.1/", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://0xa9fea9fe/latest"] {
            let denied = guard.check(&url(text), &public()).unwrap_err().to_string();
            assert!(denied.starts_with("not allowed: "), "{denied}");
        }
        assert_eq!(guard.check(&url("http://127.1/"), &Policy::default()), Ok(()));
        assert!(guard.check(&url("http://169.254.169.254/"), &Policy::default()).is_err());
        assert_eq!(guard.check(&url("http://localhost/"), &public()), Ok(()));
    }

    #[tokio::test]
    async fn of_several_addresses_those_that_pass_are_dialled() {
        let mixed = ["127.0.0.1", "8.8.8.8", "::1", "2606:4700::1111"];
        let passed: Vec<IpAddr> = vec!["8.8.8.8".parse().unwrap(), "2606:4700::1111".parse().unwrap()];
        assert_eq!(allowed(&mixed, public(), None).await, Ok(passed));
        let denied = allowed(&["127.0.0.1", "::1"], public(), None).await.unwrap_err();
        assert!(denied.contains("name.test leads to 127.0.0.1"), "{denied}");
        assert_eq!(allowed(&[], public(), None).await, Err("name.test has no address".to_owned()));
    }

    #[tokio::test]
    async fn the_admin_listener_is_refused_at_its_address_and_port() {
        let guard = |admin: &str| Guard::new(Arc::new(SystemLookup), Some(admin.parse().unwrap()));
        let refused = |admin: &str, text: &str| guard(admin).check(&url(text), &Policy::default()).is_err();
        for text in ["http://127.0.0.1:8081/", "http://127.1:8081/", "http://[::ffff:127.0.0.1]:8081/"] {
            assert!(refused("127.0.0.1:8081", text), "{text}");
            assert!(refused("0.0.0.0:8081", text), "{text}");
            assert!(refused("[::]:8081", text), "{text}");
        }
        assert!(refused("[::]:8081", "http://127.0.0.2:8081/") && refused("[::]:8081", "http://[::1]:8081/"));
        assert!(refused("127.0.0.1:80", "http://127.0.0.1/") && refused("127.0.0.1:443", "https://127.0.0.1/"));
        for text in ["http://127.0.0.1:8080/", "http://127.0.0.2:8081/", "http://192.0.2.1:8081/"] {
            assert!(!refused("127.0.0.1:8081", text), "{text}");
        }
        assert!(!refused("0.0.0.0:8081", "http://192.0.2.1:8081/"), "not this machine's");
        let named = Policy { admin: true, ..Policy::default() };
        assert_eq!(guard("127.0.0.1:8081").check(&url("http://127.0.0.1:8081/"), &named), Ok(()));

        let by_name = allowed(&["127.0.0.1"], Policy::default(), Some("127.0.0.1:8081")).await.unwrap_err();
        assert!(by_name.contains("own admin listener"), "{by_name}");
        assert!(guard("127.0.0.1:8081").is_admin_port(&url("http://x:8081/")));
        assert!(!guard("127.0.0.1:8081").is_admin_port(&url("http://x/")));
    }

    #[tokio::test]
    async fn a_name_is_resolved_or_the_error_says_which() {
        let resolver = Guard::default().resolver(Arc::new(Policy::default()), false);
        assert!(resolver.allowed("localhost").await.unwrap().iter().all(IpAddr::is_loopback));
        let error = resolver.allowed("nothing.invalid").await.unwrap_err();
        assert!(error.to_string().starts_with("nothing.invalid cannot be resolved"), "{error}");
    }
}
