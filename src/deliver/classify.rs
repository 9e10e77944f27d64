//! What a client error means: one [`FailureClass`] and one line for people.
//!
//! Classes are read from typed causes in the error's chain, never from its text. The text names the
//! innermost cause only, because the outer ones repeat the URL, whose query may hold a secret.

use std::error::Error;
use std::io;
use std::io::ErrorKind;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};

use crate::core::attempt::{Failure, FailureClass};
use crate::core::event::cut;
use crate::egress::{Denied, DnsError};

/// Longest failure text, in bytes.
const DETAIL_MAX_BYTES: usize = 256;

/// The failure behind `error`; `sent_whole` as the body saw it.
pub(super) fn failure(error: &reqwest::Error, sent_whole: bool) -> Failure {
    let innermost =
        causes(error).skip(1).last().map_or_else(|| "the request cannot be built".into(), ToString::to_string);
    let class = class(error, sent_whole);
    let detail = match class {
        FailureClass::EgressDenied => innermost,
        FailureClass::Tls => find::<rustls::Error>(error).map_or(innermost, tls_detail),
        _ if error.is_connect() => format!("no connection: {innermost}"),
        _ => innermost,
    };
    Failure { class, detail: cut(&detail, DETAIL_MAX_BYTES).to_owned() }
}

/// The failure of an attempt that used up its `timeout`.
pub(super) fn timed_out(timeout: Duration, sent_whole: bool) -> Failure {
    let (class, what) = if sent_whole {
        (FailureClass::TimeoutAfterSent, "the request was sent, no answer came")
    } else {
        (FailureClass::TimeoutBeforeSent, "the request was not sent whole")
    };
    Failure { class, detail: format!("{what} within {timeout:?}") }
}

/// The failure of an attempt that could not be made.
pub(super) fn not_sent(why: &(dyn Error + 'static)) -> Failure {
    let is_denied = why.downcast_ref::<Denied>().is_some();
    let class = if is_denied { FailureClass::EgressDenied } else { FailureClass::NotSent };
    Failure { class, detail: cut(&why.to_string(), DETAIL_MAX_BYTES).to_owned() }
}

fn class(error: &reqwest::Error, sent_whole: bool) -> FailureClass {
    if find::<Denied>(error).is_some() {
        return FailureClass::EgressDenied;
    }
    if find::<DnsError>(error).is_some() {
        return FailureClass::Dns;
    }
    if error.is_builder() {
        return FailureClass::NotSent;
    }
    if find::<rustls::Error>(error).is_some() {
        return FailureClass::Tls;
    }
    if error.is_connect() {
        return connect_class(error);
    }
    if find::<hyper::Error>(error).is_some_and(hyper::Error::is_parse) {
        return FailureClass::Protocol;
    }
    if sent_whole { FailureClass::ResetAfterSent } else { FailureClass::ResetBeforeSent }
}

/// What went wrong in TLS, and which setting has to do with it.
fn tls_detail(error: &rustls::Error) -> String {
    let hint = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            " (signed by nobody who is trusted for this endpoint: tls.ca and tls.machine_roots say who is)"
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            " (the endpoint wants a client certificate: tls.identity)"
        }
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => " (the endpoint does not take our client certificate, tls.identity)",
        _ => "",
    };
    format!("TLS: {error}{hint}")
}

/// The class of an error before the connection stood.
fn connect_class(error: &reqwest::Error) -> FailureClass {
    let secure = error.url().is_some_and(|url| url.scheme() == "https");
    // The outer ones are wrappers of kind `Other`.
    let innermost = causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last();
    match innermost.map(io::Error::kind) {
        Some(ErrorKind::ConnectionRefused) => FailureClass::Refused,
        // Only a handshake talks before the connection stands, so only it can be hung up on.
        Some(
            ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::InvalidData,
        ) if secure => FailureClass::Tls,
        _ => FailureClass::Unreachable,
    }
}

/// The first cause of type `E`, from the outside in.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The error and its causes, from the outside in.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |outer| cause(*outer))
}

/// The next error inwards. An [`io::Error`] hides the one it wraps from `source`, so it is asked itself.
fn cause<'a>(outer: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match outer.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => outer.source(),
    }
}
