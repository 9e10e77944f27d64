//! `tls`, `proxy` and `auth` of an endpoint: as whom it is dialled, through whom, and by which password.
//!
//! The files of `tls` are read and tried here, so that a wrong one is named by its key, line and path before
//! anything starts. What `auth` says becomes one header like those of `headers`, for that is all it is on the wire.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use reqwest::Url;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::raw::{Place, Table, Value};
use super::scalar;
use crate::core::dial::{Credentials, Identity, Pem, Proxy, Tls};
use crate::core::event::Header;

/// `{ identity, key, ca, machine_roots }`.
pub(super) fn tls(value: &Value<'_>) -> Option<Tls> {
    let mut table = value.table()?;
    let identity = table.read("identity", Value::pem);
    let key_place = table.place_of("key");
    let key = table.read("key", Value::pem);
    if key.is_some() && identity.is_none() {
        key_place.refuse("is a key without a certificate; identity is its file");
    }
    let identity_place = table.place_of("identity");
    let identity = identity.and_then(|certificates| {
        let place = if key.is_some() { &key_place } else { &identity_place };
        let key = key.unwrap_or_else(|| certificates.clone());
        checked_identity(Identity { certificates, key }, &identity_place, place)
    });
    let ca_place = table.place_of("ca");
    let asked_ca = table.get("ca");
    let machine_roots = table.flag("machine_roots", asked_ca.is_none());
    if !machine_roots && asked_ca.is_none() {
        table.place_of("machine_roots").refuse("is false and there is no ca: nobody would be trusted; name a ca");
    }
    let ca = asked_ca.and_then(|value| value.pem()).and_then(|ca| checked_ca(ca, &ca_place));
    table.done();
    Some(Tls { identity, ca, machine_roots })
}

fn checked_identity(identity: Identity, place: &Place<'_>, key_place: &Place<'_>) -> Option<Identity> {
    let chain = certificates(&identity.certificates, place)?;
    let file = identity.key.file.display();
    let Ok(key) = PrivateKeyDer::from_pem_slice(identity.key.text.as_bytes()) else {
        key_place.refuse(format!("{file} holds no private key in PEM form, or one that is broken or encrypted"));
        return None;
    };
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(_usable) => Some(identity),
        Err(rustls::Error::InconsistentKeys(_)) => {
            key_place.refuse(format!("the private key in {file} is not that of the first certificate"));
            None
        }
        Err(error) => {
            key_place.refuse(format!("what is in {file} cannot be used: {error}"));
            None
        }
    }
}

fn checked_ca(ca: Pem, place: &Place<'_>) -> Option<Pem> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&ca, place)? {
        if let Err(error) = roots.add(certificate) {
            place.refuse(format!("a certificate in {} cannot be used: {error}", ca.file.display()));
            return None;
        }
    }
    Some(ca)
}

fn certificates(pem: &Pem, place: &Place<'_>) -> Option<Vec<CertificateDer<'static>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.text.as_bytes()).collect();
    let found = read.ok().filter(|certificates| !certificates.is_empty());
    if found.is_none() {
        place.refuse(format!("{} holds no certificate in PEM form, or one that is broken", pem.file.display()));
    }
    found
}

impl Value<'_> {
    /// The PEM file that this names.
    fn pem(&self) -> Option<Pem> {
        let (file, text): (PathBuf, String) = self.file()?;
        Some(Pem { file, text: Arc::from(text) })
    }
}

/// `"http://host:port"`, or `{ url, user, password }`.
pub(super) fn proxy(value: &Value<'_>) -> Option<Proxy> {
    if value.is_text() {
        return value.parsed(proxy_url).map(|url| Proxy { url, credentials: None });
    }
    if !value.is_table() {
        return value.wrong_type(
            "a text like \"http://proxy:3128\" or a table like { url = \"…\", user = \"…\", password = \"…\" }",
        );
    }
    let mut table = value.table()?;
    let url = required(&mut table, "url", "the proxy's address, like \"http://proxy:3128\"")
        .and_then(|value| value.parsed(proxy_url));
    let has_credentials = table.has("user") || table.has("password");
    let credentials = if has_credentials { credentials(&mut table) } else { None };
    table.done();
    Some(Proxy { url: url?, credentials })
}

fn proxy_url(text: &str) -> Result<String, String> {
    let shape = "must be the URL of an HTTP proxy, like \"http://proxy:3128\"";
    let url = Url::parse(text).map_err(|error| format!("{shape}: {error}"))?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    // The client that speaks to the proxy reads its URL more strictly.
    let is_readable = url.as_str().parse::<http::Uri>().is_ok();
    if url.scheme() != "http" || !url.has_host() || !is_bare || !is_readable {
        Err(format!("{shape}; it has a host and a port, and no other scheme is spoken to proxies"))
    } else if !url.username().is_empty() || url.password().is_some() {
        Err("holds a user or password; write { url = \"…\", user = \"…\", password = \"${…}\" }".to_owned())
    } else {
        Ok(url.into())
    }
}

/// The header that says who we are: `{ bearer }`, `{ basic = { user, password } }` or `{ header, value }`.
pub(super) fn auth(value: &Value<'_>) -> Option<Header> {
    const SHAPE: &str =
        "{ bearer = \"…\" }, { basic = { user = \"…\", password = \"…\" } } or { header = \"…\", value = \"…\" }";
    let mut table = value.table()?;
    let (bearer, basic) = (table.get("bearer"), table.get("basic"));
    let (header, given) = (table.get("header"), table.get("value"));
    let authorization = |text: String| Header { name: "authorization".to_owned(), value: Bytes::from(text) };
    let read = match (bearer, basic, header, given) {
        (Some(bearer), None, None, None) => {
            bearer.secret_of(bearer_token).map(|token| authorization(format!("Bearer {token}")))
        }
        (None, Some(basic), None, None) => basic.table().and_then(|mut table| {
            let read = credentials(&mut table);
            table.done();
            let Credentials { user, password } = read?;
            Some(authorization(format!("Basic {}", BASE64.encode(format!("{user}:{password}")))))
        }),
        (None, None, Some(header), Some(given)) => {
            // Both are read, so that one mistake does not hide the other.
            let (name, value) = (header.parsed(scalar::header_name), given.secret_of(secret_header));
            Some(Header { name: name?, value: Bytes::from(value?) })
        }
        _ => {
            value.place.refuse(format!("must be {SHAPE}"));
            None
        }
    };
    table.done();
    read
}

/// `user` and `password`, which must both be there.
fn credentials(table: &mut Table<'_>) -> Option<Credentials> {
    let user = required(table, "user", "the name to log in with").and_then(|value| value.secret_of(user));
    let password =
        required(table, "password", "the password, like \"${PASSWORD}\"").and_then(|value| value.secret_of(password));
    Some(Credentials { user: user?, password: password? })
}

fn required<'a>(table: &mut Table<'a>, key: &'static str, what: &str) -> Option<Value<'a>> {
    let found = table.get(key);
    if found.is_none() {
        table.place_of(key).refuse(format!("is missing; it is {what}"));
    }
    found
}

fn user(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(':') || text.chars().any(char::is_control) {
        Err("must be a name without colons and control characters (RFC 7617)".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn password(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        Err("must be a password without control characters (RFC 7617)".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn bearer_token(text: &str) -> Result<String, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned())
    } else {
        Err("must be a token: visible characters without spaces".to_owned())
    }
}

fn secret_header(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("is empty".to_owned()) } else { scalar::header_value(text) }
}
