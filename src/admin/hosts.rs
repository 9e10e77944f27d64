//! By which names the admin API may be asked.
//!
//! A page in an operator's browser can have its own name point to this machine (DNS rebinding), and would then be
//! of the same origin as this API; but it cannot choose the Host that is sent. So names that nobody has allowed are
//! answered with 421. A request without a Host is of no browser.

use std::net::{IpAddr, SocketAddr};

use http::request::Parts;
use http::uri::Authority;

/// The names that are allowed: those given, those of loopback, and the address that it listens on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    names: Vec<String>,
    listens_on: IpAddr,
}

impl Hosts {
    /// `names` in lower case, without ports.
    #[must_use]
    pub fn new(listens_on: SocketAddr, names: Vec<String>) -> Self {
        Self { names, listens_on: listens_on.ip().to_canonical() }
    }

    /// Whether a request is for one of them.
    pub(super) fn fits(&self, parts: &Parts) -> bool {
        let mut hosts = parts.headers.get_all(http::header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (None, _) => None,
            (Some(host), None) => match host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()) {
                Some(host) if !host.as_str().contains('@') => Some(host),
                _ => return false,
            },
            (Some(_), Some(_)) => return false,
        };
        // A request line with a whole URL says it a second time.
        [host.as_ref(), parts.uri.authority()].into_iter().flatten().all(|authority| self.allows(authority.host()))
    }

    fn allows(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if self.names.iter().any(|name| name.eq_ignore_ascii_case(bare)) || bare.eq_ignore_ascii_case("localhost") {
            return true;
        }
        // Nobody's name leads here where an address is asked for; which ones this machine has it need not know.
        match bare.parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(address) => address.is_loopback() || address == self.listens_on || self.listens_on.is_unspecified(),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, hosts: &[&str]) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_names_that_are_allowed_fit() {
        let hosts = Hosts::new("10.0.0.5:8081".parse().unwrap(), vec!["ops.example.com".to_owned()]);
        for good in ["localhost", "LOCALHOST:8081", "127.0.0.1:1", "[::1]:8081", "10.0.0.5", "ops.example.com:443"] {
            assert!(hosts.fits(&parts("/", &[good])), "{good}");
        }
        for bad in ["evil.example", "10.0.0.6", "localhost.evil.example", "ops.example.com.", "", "a@localhost", "é"] {
            assert!(!hosts.fits(&parts("/", &[bad])), "{bad}");
        }
        assert!(hosts.fits(&parts("/", &[])), "no browser");
        assert!(!hosts.fits(&parts("/", &["localhost", "localhost"])));
        assert!(!hosts.fits(&parts("http://evil.example/", &["localhost"])));
        assert!(!hosts.fits(&parts("http://localhost/", &["evil.example"])));
    }

    #[test]
    fn a_listener_on_every_address_is_asked_by_any_address_but_no_name() {
        for every in ["0.0.0.0:8081", "[::]:8081"] {
            let hosts = Hosts::new(every.parse().unwrap(), vec![]);
            assert!(hosts.fits(&parts("/", &["192.168.1.7:8081"])));
            assert!(hosts.fits(&parts("/", &["[2001:db8::1]:8081"])));
            assert!(!hosts.fits(&parts("/", &["evil.example"])));
        }
    }
}
