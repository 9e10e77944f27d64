//! TLS as an endpoint wants it: whom we trust, and who we are.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::core::dial::{Pem, Tls};

/// Why TLS cannot be set up. Names the file, never what is in it.
#[derive(Debug)]
pub(super) enum TlsError {
    /// The file has nothing of what it should.
    Pem(String, &'static str),
    /// What the file has cannot be used.
    Unusable(String, rustls::Error),
    /// rustls refuses its own protocol versions: a fault of the build.
    Build(rustls::Error),
}

/// A client's side of TLS, 1.2 at least. `machine` are the authorities that this machine trusts.
pub(super) fn config(machine: &RootCertStore, tls: &Tls) -> Result<ClientConfig, TlsError> {
    let mut roots = if tls.machine_roots { machine.clone() } else { RootCertStore::empty() };
    if let Some(ca) = &tls.ca {
        for certificate in certificates(ca)? {
            roots.add(certificate).map_err(|error| unusable(ca, error))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Build)?
        .with_root_certificates(roots);
    let Some(identity) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(&identity.certificates)?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.text.as_bytes());
    let key = key.map_err(|_| TlsError::Pem(name(&identity.key), "private key"))?;
    builder.with_client_auth_cert(chain, key).map_err(|error| unusable(&identity.key, error))
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.text.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Pem(name(pem), "certificate")),
    }
}

fn unusable(pem: &Pem, error: rustls::Error) -> TlsError {
    TlsError::Unusable(name(pem), error)
}

fn name(pem: &Pem) -> String {
    pem.file.display().to_string()
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(file, what) => write!(f, "{file} holds no {what} in PEM form, or one that is broken"),
            Self::Unusable(file, rustls::Error::InconsistentKeys(_)) => {
                write!(f, "the key in {file} is not that of the certificate")
            }
            Self::Unusable(file, error) => write!(f, "what is in {file} cannot be used: {error}"),
            Self::Build(error) => write!(f, "TLS cannot be set up: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}
