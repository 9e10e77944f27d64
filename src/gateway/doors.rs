//! The two listeners as the config has them, and the sockets that the process may have.

use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::AbortHandle;

use super::GatewayError;
use crate::config::{Config, TlsFiles};
use crate::listener::{Limits, Listener, Tls};
use crate::telemetry::Intake;

/// Connections of operators: few, and never in the way of senders.
const ADMIN_CONNECTIONS_MAX: u32 = 128;
/// Of them, those of one address that is not trusted.
const ADMIN_CONNECTIONS_MAX_PER_ADDRESS: u32 = 32;
/// Descriptors for everything but connections and attempts: the journal's files, logs, the runtime's own.
const DESCRIPTORS_BESIDES: u64 = 128;

/// The bound listeners, and their certificates.
pub(super) struct Doors {
    pub(super) front: Listener,
    pub(super) back: Listener,
    pub(super) certificates: Vec<Certificate>,
}

/// A listener's certificate, looked after until dropped.
pub(super) struct Certificate {
    /// Where the config has it.
    pub(super) key: &'static str,
    pub(super) tls: Arc<Tls>,
    follower: AbortHandle,
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Doors {
    /// Binds both, with their certificates, after having seen to the sockets there may be.
    pub(super) async fn open(config: &Config, intake: &Arc<Intake>) -> Result<Self, GatewayError> {
        let server = &config.server;
        let attempts = u64::try_from(config.delivery.in_flight_max).unwrap_or(u64::MAX);
        let connections = u64::from(server.connections_max) + u64::from(ADMIN_CONNECTIONS_MAX);
        raise_descriptors(connections.saturating_add(attempts).saturating_add(DESCRIPTORS_BESIDES));
        let mut certificates = Vec::new();
        let limits = Limits {
            connections_max: server.connections_max,
            connections_max_per_address: server.connections_max_per_address,
            trusted: server.trusted_proxies.clone(),
            header_timeout: server.header_timeout,
            idle_timeout: server.idle_timeout,
            bytes_per_sec_min: server.bytes_per_sec_min,
        };
        let operators = Limits {
            connections_max: ADMIN_CONNECTIONS_MAX,
            connections_max_per_address: ADMIN_CONNECTIONS_MAX_PER_ADDRESS,
            ..limits.clone()
        };
        let front = bind(server.listen, limits).await?.counting(Arc::clone(intake));
        let front = secure(front, ("server.tls", server.tls.as_ref()), &mut certificates)?;
        let back = bind(config.admin.listen, operators).await?;
        let back = secure(back, ("admin.tls", config.admin.tls.as_ref()), &mut certificates)?;
        Ok(Self { front, back, certificates })
    }
}

async fn bind(addr: SocketAddr, limits: Limits) -> Result<Listener, GatewayError> {
    Listener::bind(addr, limits).await.map_err(|error| GatewayError::Bind(addr, error))
}

/// With TLS, if there are files for it.
fn secure(
    listener: Listener,
    (key, files): (&'static str, Option<&TlsFiles>),
    certificates: &mut Vec<Certificate>,
) -> Result<Listener, GatewayError> {
    let Some(files) = files else { return Ok(listener) };
    let tls = Arc::new(Tls::load(files.clone()).map_err(GatewayError::Tls)?);
    let follower = tokio::spawn(Arc::clone(&tls).follow()).abort_handle();
    certificates.push(Certificate { key, tls: Arc::clone(&tls), follower });
    Ok(listener.with_tls(tls))
}

pub(super) fn addr_of(listener: &Listener) -> Result<SocketAddr, GatewayError> {
    listener.local_addr().map_err(|error| GatewayError::Bind(SocketAddr::from(([0, 0, 0, 0], 0)), error))
}

/// Raises the soft limit of open files to the hard one, and says so if that is fewer than the config may need.
fn raise_descriptors(needed: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let allowed = if raised.is_ok() { maximum } else { current };
    if let Some(allowed) = allowed.filter(|allowed| *allowed < needed) {
        tracing::warn!(
            allowed,
            needed,
            "this process may not open as many sockets as server.connections_max and delivery.in_flight_max allow; \
             raise its hard limit of open files (LimitNOFILE= of systemd, ulimit -Hn)"
        );
    }
}
