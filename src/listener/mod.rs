//! The accept loop: TCP connections in, with TLS or without, HTTP/1.1 requests to a service, a clean end.
//!
//! Promises: never more than `connections_max` connections are open, since each takes its permit before it
//! is accepted (the others wait in the kernel's queue), and no address has more of them than its share, unless it
//! is trusted; when the permits run out the connection that has idled longest is closed. A handshake and a header
//! arrive within their time and size, a body keeps coming, an answer is taken, or the connection ends; memory per
//! connection is bounded, and while it idles next to nothing; running out of sockets neither stops the loop nor
//! makes it spin; on a stop signal no new request is begun, those under way are finished, and what is left
//! at the deadline is cut. The peer's [`SocketAddr`] is in each request's extensions.
//!
//! `addresses` counts by address · `connection` one of them, from `head` to `head` · `wire` its two ends · `tls` the
//! certificate. Absent: anything about webhooks; a deadline for whole bodies, which whoever reads a body knows
//! better; HTTP/2, which senders of webhooks do not need.

mod addresses;
mod connection;
mod head;
mod shared;
mod tls;
mod wire;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use self::addresses::{Addresses, Place};
use self::shared::Shared;
pub use self::tls::{Identity, Tls, TlsError};
use crate::core::network::Network;
use crate::telemetry::{Intake, Turned};
use crate::upload::Upload;

/// Largest header of a request, in bytes, its first line included; above it 431 and the connection ends.
pub const HEADER_MAX_BYTES: usize = 32 << 10;
/// Most header lines of a request; above it 431 and the connection ends.
pub const HEADER_LINES_MAX: usize = 100;
/// Most bytes read ahead per connection.
const BUFFER_MAX_BYTES: usize = 64 << 10;
/// How long nothing is accepted after the machine had no socket or no memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(500);

/// Connections that wait to be accepted, where the system lets so many wait.
const BACKLOG: u32 = 4096;
/// After how long a silence, how often and how many times TCP asks whether the peer is there at all.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// What is said to an address that has all its connections.
const CROWDED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\n\
    content-type: text/plain\r\ncontent-length: 43\r\n\r\nthis address has too many connections open\n";

/// What a listener allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most connections open at a time. At least 1.
    pub connections_max: u32,
    /// Most of them of one address, where an IPv6 address stands for its /64.
    pub connections_max_per_address: u32,
    /// Networks whose addresses are not counted: proxies, through which everybody comes.
    pub trusted: Vec<Network>,
    /// Longest time for a TLS handshake, and for a request's header from its first byte.
    pub header_timeout: Duration,
    /// Longest time that a connection may do nothing.
    pub idle_timeout: Duration,
    /// Fewest bytes a second that a body must bring; 0 is no least.
    pub bytes_per_sec_min: u32,
}

/// A bound address, not yet served.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    limits: Limits,
    permits: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    room_wanted: Arc<Notify>,
    tls: Option<Arc<Tls>>,
    intake: Option<Arc<Intake>>,
}

/// How a connection ends early.
#[derive(Clone)]
struct Stop {
    signal: watch::Receiver<bool>,
    drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            connections_max_per_address: 256,
            trusted: Vec::new(),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            bytes_per_sec_min: 100,
        }
    }
}

impl Listener {
    /// Binds `address`; port 0 takes any free one. From now on connections queue up in the kernel.
    ///
    /// # Errors
    /// If the address is taken, not this machine's, or not allowed.
    pub async fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let tcp = socket.listen(BACKLOG)?;
        // Connections inherit these, so that none needs a call of its own.
        let (idle, interval, count) = KEEPALIVE;
        let set = sockopt::set_tcp_nodelay(&tcp, true)
            .and_then(|()| sockopt::set_socket_keepalive(&tcp, true))
            .and_then(|()| sockopt::set_tcp_keepidle(&tcp, idle))
            .and_then(|()| sockopt::set_tcp_keepintvl(&tcp, interval))
            .and_then(|()| sockopt::set_tcp_keepcnt(&tcp, count));
        if let Err(error) = set {
            tracing::warn!(%address, %error, "TCP_NODELAY or TCP keepalive cannot be set");
        }
        let permits = Semaphore::new(usize::try_from(limits.connections_max).unwrap_or(Semaphore::MAX_PERMITS));
        let addresses = Addresses::new(limits.connections_max_per_address, limits.trusted.clone());
        Ok(Self {
            tcp,
            permits: Arc::new(permits),
            addresses: Arc::new(addresses),
            room_wanted: Arc::default(),
            tls: None,
            intake: None,
            limits,
        })
    }

    /// Speaks TLS.
    #[must_use]
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Counts there the connections that it refuses.
    #[must_use]
    pub fn counting(self, intake: Arc<Intake>) -> Self {
        Self { intake: Some(intake), ..self }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system cannot say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `stop` is true or its sender is gone; then refuses new connections, lets the requests
    /// under way end, and returns when the last has, at most `drain` later.
    pub async fn serve<S, B>(self, service: S, stop: watch::Receiver<bool>, drain: Duration)
    where
        S: Service<Request<Upload>, Response = Response<B>> + Send + Sync + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
    {
        let shared = Arc::new(Shared::new(service, self.limits.clone(), Arc::clone(&self.room_wanted)));
        let mut stop = Stop { signal: stop, drain };
        loop {
            let (stream, peer, permit, place) = tokio::select! {
                biased;
                () = stop.asked() => break,
                next = self.next() => next,
            };
            let (shared, stop, tls) = (Arc::clone(&shared), stop.clone(), self.tls.clone());
            tokio::spawn(async move {
                match tls {
                    None => connection::serve(&shared, stream, peer, stop).await,
                    // In a box: plain connections are not to be as large.
                    Some(tls) => Box::pin(serve_tls(&shared, &tls, stream, peer, stop)).await,
                }
                drop((permit, place));
            });
        }
        let Self { tcp, limits, permits, .. } = self;
        drop(tcp);
        // Every connection ends by the deadline of its own and gives its permit back: all are back, all have ended.
        let _all = permits.acquire_many(limits.connections_max).await;
    }

    /// The next connection, taken only once there is a permit for it.
    async fn next(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit, Place) {
        let mut permit = self.permit().await;
        loop {
            match self.tcp.accept().await {
                Ok((stream, peer)) => match self.addresses.admit(peer.ip()) {
                    Some(place) => return (stream, peer, permit, place),
                    None => self.turn_away(&stream, peer),
                },
                Err(error) if is_the_peers(&error) => tracing::debug!(%error, "a connection ended before it was taken"),
                Err(error) => {
                    tracing::warn!(%error, "connections cannot be accepted");
                    // Others may use what there is of sockets meanwhile, this permit's too.
                    drop(permit);
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                    permit = self.permit().await;
                }
            }
        }
    }

    /// Room for a connection. Where there is none, it is asked of the one that has idled longest.
    async fn permit(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return permit;
        }
        self.room_wanted.notify_one();
        match Arc::clone(&self.permits).acquire_owned().await {
            Ok(permit) => permit,
            // Nobody closes the semaphore; if somebody did, there would be no permit ever again.
            Err(_) => std::future::pending().await,
        }
    }

    /// Closes a connection of an address that has its share; says so where that costs nothing.
    fn turn_away(&self, stream: &TcpStream, peer: SocketAddr) {
        if let Some(intake) = &self.intake {
            intake.note(Turned::Crowded);
        }
        let told = self.tls.is_none() && stream.try_write(CROWDED).is_ok();
        tracing::debug!(%peer, told, "this address has as many connections as it may");
    }
}

impl Stop {
    async fn asked(&mut self) {
        // A sender that is gone cannot ask any more: that is a stop, too.
        let _sender_is_there = self.signal.wait_for(|stop| *stop).await.is_ok();
    }
}

/// Whether an accept failed because of one peer, so that the next may succeed at once.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Shakes hands, then serves the connection to its end.
async fn serve_tls<S, B>(shared: &Shared<S>, tls: &Tls, stream: TcpStream, peer: SocketAddr, mut stop: Stop)
where
    S: Service<Request<Upload>, Response = Response<B>, Future: Send>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + 'static,
{
    let handshake = async {
        // Who says nothing costs nothing.
        stream.readable().await?;
        tls.acceptor().accept(stream).await
    };
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = stop.asked() => return,
        () = tokio::time::sleep(shared.limits.header_timeout) => Err(io::ErrorKind::TimedOut.into()),
    };
    match shaken {
        Ok(stream) => connection::serve(shared, stream, peer, stop).await,
        Err(error) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
    }
}
