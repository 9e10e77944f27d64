//! Tells the service manager how the gateway fares, as systemd's `Type=notify-reload` asks for (sd_notify(3)).
//!
//! A datagram a state, to the socket that NOTIFY_SOCKET names; without one nothing happens. What cannot be told is
//! logged: the gateway serves all the same.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;

use crate::engine::{Clock as _, SystemClock};

/// The environment variable that names the socket: a path, or a name in the abstract namespace behind an `@`.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// The way to the service manager, if there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Option<Arc<(UnixDatagram, SocketAddr)>>);

impl Notifier {
    /// The service manager that started this process, if one did and wants to know.
    #[must_use]
    pub fn from_environment() -> Self {
        let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else { return Self::default() };
        let address = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&name),
        };
        match address.and_then(|address| Ok((UnixDatagram::unbound()?, address))) {
            Ok(way) => Self(Some(Arc::new(way))),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told how the gateway fares: {VARIABLE}");
                Self::default()
            }
        }
    }

    /// It serves; `status` in words.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
    }

    /// It reads its config again.
    pub(super) fn reloading(&self) {
        let now = SystemClock.steady().as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=reading the config again"));
    }

    /// It ends.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping");
    }

    fn tell(&self, state: &str) {
        let Some(way) = &self.0 else { return };
        let (socket, address) = &**way;
        match socket.send_to_addr(state.as_bytes(), address) {
            Err(error) if error.kind() != io::ErrorKind::ConnectionRefused => {
                tracing::warn!(%error, "the service manager was not told");
            }
            _ => {}
        }
    }
}
