//! The accept loop: TCP connections in, HTTP/1.1 requests to a service, a clean end.
//!
//! Promises: never more than `connections_max` connections are open, since each takes its permit before it
//! is accepted (the others wait in the kernel's queue); a header arrives within its time and size or the
//! connection ends; memory per connection is bounded; running out of sockets neither stops the loop nor
//! makes it spin; on a stop signal no new request is begun, those under way are finished, and what is left
//! at the deadline is cut. The peer's [`SocketAddr`] is in each request's extensions.
//!
//! Absent: anything about webhooks; a deadline for bodies, which whoever reads a body knows better. TLS
//! (with HTTP/2), stall guards and caps per address have their places: [`Listener::next`] for what is
//! decided before a connection is taken, [`serve_connection`] for what is wrapped around its socket.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Largest header of a request, in bytes, its first line included; above it 431 and the connection ends.
pub const HEADER_MAX_BYTES: usize = 32 << 10;
/// Most header lines of a request; above it 431 and the connection ends.
pub const HEADER_LINES_MAX: usize = 100;
/// Most bytes read ahead per connection.
const BUFFER_MAX_BYTES: usize = 64 << 10;
/// How long nothing is accepted after the machine had no socket or no memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(500);

/// What a listener allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most connections open at a time. At least 1.
    pub connections_max: u32,
    /// Longest time for a request's header to arrive, from the connection's begin or the former answer: it
    /// bounds how long a kept-alive connection idles, too.
    pub header_timeout: Duration,
}

/// A bound address, not yet served.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    limits: Limits,
    permits: Arc<Semaphore>,
}

/// How a connection ends early.
#[derive(Clone)]
struct Stop {
    signal: watch::Receiver<bool>,
    drain: Duration,
}

impl Listener {
    /// Binds `address`; port 0 takes any free one. From now on connections queue up in the kernel.
    ///
    /// # Errors
    /// If the address is taken, not this machine's, or not allowed.
    pub async fn bind(address: SocketAddr, limits: Limits) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let permits = Semaphore::new(usize::try_from(limits.connections_max).unwrap_or(Semaphore::MAX_PERMITS));
        Ok(Self { tcp, limits, permits: Arc::new(permits) })
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
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let http = http(self.limits.header_timeout);
        let mut stop = Stop { signal: stop, drain };
        loop {
            let (stream, peer, permit) = tokio::select! {
                biased;
                () = stop.asked() => break,
                next = self.next() => next,
            };
            let (http, service, stop) = (http.clone(), service.clone(), stop.clone());
            tokio::spawn(async move {
                serve_connection(&http, service, stream, peer, stop).await;
                drop(permit);
            });
        }
        let Self { tcp, limits, permits } = self;
        drop(tcp);
        // Every connection ends by the deadline of its own and gives its permit back: all are back, all have ended.
        let _all = permits.acquire_many(limits.connections_max).await;
    }

    /// The next connection, taken only once there is a permit for it.
    async fn next(&self) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
        loop {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                // Nobody closes the semaphore; if somebody did, there would be no permit ever again.
                return std::future::pending().await;
            };
            match self.tcp.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                Err(error) if is_the_peers(&error) => tracing::debug!(%error, "a connection ended before it was taken"),
                Err(error) => {
                    tracing::warn!(%error, "connections cannot be accepted");
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

impl Stop {
    async fn asked(&mut self) {
        // A sender that is gone cannot ask any more: that is a stop, too.
        let _sender_is_there = self.signal.wait_for(|stop| *stop).await.is_ok();
    }
}

fn http(header_timeout: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Not set: the number of header lines. `HEADER_LINES_MAX` is hyper's own limit, and cheapest left alone.
    http.timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_header_size(HEADER_MAX_BYTES)
        .max_buf_size(BUFFER_MAX_BYTES);
    http
}

/// Whether an accept failed because of one peer, so that the next may succeed at once.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Serves one connection to its end.
async fn serve_connection<S, B>(http: &http1::Builder, service: S, stream: TcpStream, peer: SocketAddr, mut stop: Stop)
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "TCP_NODELAY cannot be set");
    }
    // Here TLS and a stall guard will wrap the stream.
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        service.call(request)
    });
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        // The connection first: a request that has arrived before the stop is under way.
        biased;
        ended = connection.as_mut() => ended,
        () = stop.asked() => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(stop.drain, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::warn!(%peer, "a request was still under way at the deadline; it was cut"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended badly");
    }
}
