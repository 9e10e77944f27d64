//! TLS on a listener: a certificate and its key in two files, read again when they change.
//!
//! A change is taken in whole or not at all: a certificate that does not fit its key (one of the two was replaced
//! and the other not yet), or a file that cannot be read, leaves what was there before, and the log says so once.
//! Connections that stand keep what they began with. TLS 1.2 at least; HTTP/1.1 only, and by ALPN told so.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::config::TlsFiles;

/// How often the files are looked at, besides when the config is read again.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Longest file of either kind, in bytes.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// A listener's side of TLS.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
}

/// Why a certificate cannot be used. Names the file, never what is in it.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Io(PathBuf, io::Error),
    /// The file has nothing of what it should.
    Pem(PathBuf, &'static str),
    /// The two do not make an identity.
    Unusable(TlsFiles, rustls::Error),
}

/// What a listener may use next. Names nothing that is secret.
pub struct Identity(Arc<ServerConfig>);

/// By what a change of the files is seen: of each its device, inode, length and time of change.
type Stamp = [Option<(u64, u64, u64, i64, i64)>; 2];

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// If there is no certificate in them, no key, or one that does not fit; it says in which file.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let config = RwLock::new(Arc::new(read(&files)?));
        Ok(Self { files, config })
    }

    /// What a connection that begins now is to use.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// What is in the files now.
    ///
    /// # Errors
    /// As [`Tls::load`].
    pub fn look(&self) -> Result<Identity, TlsError> {
        read(&self.files).map(|config| Identity(Arc::new(config)))
    }

    /// Uses it from the next connection on.
    pub fn take_in(&self, Identity(config): Identity) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        tracing::info!(certificate = %self.files.certificates.display(), "the certificate was read again");
    }

    /// Reads the files again whenever they have changed. Does not end.
    pub async fn follow(self: Arc<Self>) {
        let mut known = self.stamp().await;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.stamp().await;
            if now != known {
                known = now;
                self.look_again().await;
            }
        }
    }

    async fn look_again(self: &Arc<Self>) {
        let tls = Arc::clone(self);
        match tokio::task::spawn_blocking(move || tls.look()).await {
            Ok(Ok(identity)) => self.take_in(identity),
            Ok(Err(error)) => tracing::error!(%error, "the certificate stays as it was"),
            Err(error) => tracing::error!(%error, "the certificate stays as it was"),
        }
    }

    async fn stamp(self: &Arc<Self>) -> Stamp {
        let tls = Arc::clone(self);
        let of = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        };
        let stamp = tokio::task::spawn_blocking(move || [of(&tls.files.certificates), of(&tls.files.key)]);
        stamp.await.unwrap_or_default()
    }
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let certificates = read_capped(&files.certificates)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| TlsError::Pem(files.certificates.clone(), "certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(&read_capped(&files.key)?);
    let key = key.map_err(|_| TlsError::Pem(files.key.clone(), "private key"))?;
    let unusable = |error| TlsError::Unusable(files.clone(), error);
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn read_capped(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Io(path.to_owned(), error);
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    io::Read::read_to_end(&mut io::Read::take(file, FILE_MAX_BYTES), &mut bytes).map_err(failed)?;
    Ok(bytes)
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Pem(path, what) => write!(f, "{} holds no {what} in PEM form, or one that is broken", path.display()),
            Self::Unusable(files, rustls::Error::InconsistentKeys(_)) => {
                let (key, certificates) = (files.key.display(), files.certificates.display());
                write!(f, "the key in {key} is not that of the certificate in {certificates}")
            }
            Self::Unusable(files, error) => {
                write!(f, "the certificate in {} cannot be used: {error}", files.certificates.display())
            }
        }
    }
}

impl std::error::Error for TlsError {}
