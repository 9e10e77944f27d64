//! One connection: it waits, a head arrives, HTTP is spoken, and it waits again.
//!
//! Between requests nothing is held but the socket: a while after the last one HTTP is put away, with its buffers, and
//! made anew when the next head is there. So what idles costs little, and what comes byte by byte costs as much
//! as has come. A connection that waits is closed when its time is over, when the room is wanted, or at a stop.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderValue, Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::Stop;
use super::head::Head;
use super::shared::Shared;
use super::wire::{Answer, Wire};
use crate::upload::{Exchange, Upload};

/// How long a new connection may take to begin before it counts as one that idles.
const GREETING: Duration = Duration::from_secs(1);

/// How long after a request HTTP stays ready for the next. Who sends in a row comes sooner, and making it anew costs
/// little; ten thousand who post once and stay hold thousands of bytes each for so long.
const LINGER: Duration = Duration::from_millis(100);

/// HTTP on a connection, until it ends or nothing is under way any more.
struct Talk<T, D: HttpService<Incoming>> {
    http: Box<http1::Connection<TokioIo<Wire<T>>, D>>,
    exchange: Arc<Exchange>,
    /// When it is put away.
    quiet: Pin<Box<Sleep>>,
    /// After how many requests `quiet` runs, if it does.
    quiet_after: Option<u64>,
}

/// How a talk came to its end.
enum End {
    Closed(hyper::Result<()>),
    Quiet,
}

/// Serves a connection to its end.
pub(super) async fn serve<T, S, B>(shared: &Shared<S>, mut stream: T, peer: SocketAddr, mut stop: Stop)
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: Service<Request<Upload>, Response = Response<B>, Future: Send>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + 'static,
{
    let exchange = Arc::new(Exchange::default());
    let mut head = Head::default();
    // Since when a head is on its way, and how many requests were before it.
    let mut since = None;
    loop {
        let is_new = exchange.begun() == 0;
        if head.is_empty() && !wait(shared, &mut stream, &mut head, is_new, &mut stop).await {
            return;
        }
        let began = match since {
            Some((began, before)) if before == exchange.begun() => began,
            _ => Instant::now(),
        };
        since = Some((began, exchange.begun()));
        if !arrive(&mut stream, &mut head, began + shared.limits.header_timeout, &mut stop).await {
            return tracing::debug!(%peer, "a header did not arrive");
        }
        let wire = Wire::new(stream, head.into_bytes(), Arc::clone(&exchange));
        let door = door(shared, peer, &exchange);
        let mut talk = Talk::new(shared.http.serve_connection(TokioIo::new(wire), door), Arc::clone(&exchange));
        let end = tokio::select! {
            // The talk first: a request that has arrived before the stop is under way.
            biased;
            end = &mut talk => end,
            () = stop.asked() => {
                Pin::new(&mut *talk.http).graceful_shutdown();
                match tokio::time::timeout(stop.drain, &mut talk).await {
                    Ok(End::Quiet) => return,
                    Ok(end) => end,
                    Err(_) => return tracing::warn!(%peer, "a request was still under way at the deadline; it was cut"),
                }
            }
        };
        match end {
            End::Closed(Ok(())) => return,
            End::Closed(Err(error)) => return tracing::debug!(%peer, %error, "a connection ended badly"),
            End::Quiet => (stream, head) = talk.put_away(),
        }
    }
}

/// The service as this connection has it.
fn door<S, B>(
    shared: &Shared<S>,
    peer: SocketAddr,
    exchange: &Arc<Exchange>,
) -> impl HttpService<Incoming, ResBody = Answer<B>, Error = S::Error, Future: Send> + use<S, B>
where
    S: Service<Request<Upload>, Response = Response<B>, Future: Send>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + Unpin + 'static,
{
    let (service, exchange, least) =
        (Arc::clone(&shared.service), Arc::clone(exchange), shared.limits.bytes_per_sec_min);
    service_fn(move |request: Request<Incoming>| {
        let (mut parts, body) = request.into_parts();
        if !body.is_end_stream() {
            own(&mut parts);
        }
        parts.extensions.insert(peer);
        let (body, number) = Upload::begin(body, least, &exchange);
        let answer = service.call(Request::from_parts(parts, body));
        let exchange = Arc::clone(&exchange);
        async move { Ok(answer.await?.map(|body| Answer::new(body, exchange, number))) }
    })
}

/// Copies what of a head are slices of the connection's read buffer. A request whose body is waited for would hold
/// that buffer, of thousands of bytes, and the connection one more.
fn own(head: &mut Parts) {
    if let Ok(uri) = Uri::from_maybe_shared(Bytes::from(head.uri.to_string()))
        && uri == head.uri
    {
        head.uri = uri;
    }
    let mut bytes = BytesMut::with_capacity(head.headers.values().map(HeaderValue::len).sum());
    for value in head.headers.values_mut() {
        bytes.extend_from_slice(value.as_bytes());
        if let Ok(own) = HeaderValue::from_maybe_shared(bytes.split().freeze()) {
            *value = own;
        }
    }
}

/// Waits for the first byte of a head; false if the connection is over.
async fn wait<T, S>(shared: &Shared<S>, stream: &mut T, head: &mut Head, is_new: bool, stop: &mut Stop) -> bool
where
    T: AsyncRead + Unpin,
{
    let room_is_wanted = async {
        if is_new {
            tokio::time::sleep(GREETING).await;
        }
        shared.room_wanted.notified().await;
    };
    tokio::select! {
        biased;
        more = std::future::poll_fn(|cx| head.poll_more(stream, cx)) => matches!(more, Ok(true)),
        () = stop.asked() => false,
        () = room_is_wanted => false,
        () = tokio::time::sleep(shared.limits.idle_timeout) => false,
    }
}

/// Waits until the head is there; false if it does not come in time.
async fn arrive<T>(stream: &mut T, head: &mut Head, deadline: Instant, stop: &mut Stop) -> bool
where
    T: AsyncRead + Unpin,
{
    // What seemed ready before and was not has no more time than any other.
    if Instant::now() >= deadline {
        return false;
    }
    if head.is_ready() {
        return true;
    }
    let all = async {
        loop {
            match std::future::poll_fn(|cx| head.poll_more(stream, cx)).await {
                Ok(true) if head.is_ready() => return true,
                Ok(true) => {}
                Ok(false) | Err(_) => return false,
            }
        }
    };
    tokio::select! {
        biased;
        arrived = all => arrived,
        () = stop.asked() => false,
        () = tokio::time::sleep_until(deadline) => false,
    }
}

impl<T, D, B> Talk<T, D>
where
    T: AsyncRead + AsyncWrite + Unpin,
    D: HttpService<Incoming, ResBody = B>,
    D::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    fn new(http: http1::Connection<TokioIo<Wire<T>>, D>, exchange: Arc<Exchange>) -> Self {
        let quiet = Box::pin(tokio::time::sleep(LINGER));
        Self { http: Box::new(http), exchange, quiet, quiet_after: None }
    }

    /// The stream, and what of the next head was read.
    fn put_away(self) -> (T, Head) {
        let parts = self.http.into_parts();
        let (stream, before) = parts.io.into_inner().into_parts();
        (stream, Head::new([parts.read_buf, before].concat()))
    }
}

impl<T, D, B> Future for Talk<T, D>
where
    T: AsyncRead + AsyncWrite + Unpin,
    D: HttpService<Incoming, ResBody = B>,
    D::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>> + 'static,
{
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        if let Poll::Ready(ended) = Pin::new(&mut *this.http).poll(cx) {
            return Poll::Ready(End::Closed(ended));
        }
        this.exchange.watch(cx.waker());
        if !this.exchange.is_over() {
            this.quiet_after = None;
            return Poll::Pending;
        }
        let begun = this.exchange.begun();
        if this.quiet_after != Some(begun) {
            this.quiet_after = Some(begun);
            this.quiet.as_mut().reset(Instant::now() + LINGER);
        }
        ready!(this.quiet.as_mut().poll(cx));
        Poll::Ready(End::Quiet)
    }
}
