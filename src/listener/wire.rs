//! A connection's two ends as HTTP sees them: a socket that tells what was written, an answer that tells its end.
//!
//! [`Wire`] gives first what was read already, and ends a connection whose peer takes nothing of what is written
//! for [`STALL_MAX`]. Both tell the [`Exchange`], which knows by them when a request is over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::upload::Exchange;

/// Longest time that a peer takes nothing of an answer.
const STALL_MAX: Duration = Duration::from_secs(30);

/// The socket under HTTP.
#[derive(Debug)]
pub(super) struct Wire<T> {
    stream: T,
    /// Read before.
    before: Bytes,
    /// Running while the peer takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    stall_max: Duration,
    exchange: Arc<Exchange>,
}

/// An answer's body.
#[derive(Debug)]
pub(super) struct Answer<B> {
    body: B,
    exchange: Arc<Exchange>,
    number: u64,
}

impl<T> Wire<T> {
    pub(super) fn new(stream: T, before: Vec<u8>, exchange: Arc<Exchange>) -> Self {
        Self { stream, before: before.into(), stalled: None, stall_max: STALL_MAX, exchange }
    }

    /// The stream, and what of the bytes read before was not read again.
    pub(super) fn into_parts(self) -> (T, Bytes) {
        (self.stream, self.before)
    }

    /// Notes what came of a write; an error once the peer has taken nothing for too long.
    fn noted<N>(&mut self, wrote: Poll<io::Result<N>>, cx: &mut Context<'_>) -> Poll<io::Result<N>> {
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let stall_max = self.stall_max;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_max)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no answer"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Wire<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let now = self.before.len().min(buf.remaining());
        let part = self.before.split_to(now);
        buf.put_slice(part.chunk());
        if self.before.is_empty() {
            self.before = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Wire<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.exchange.unwritten();
        let wrote = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.noted(wrote, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.exchange.unwritten();
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.noted(wrote, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            // HTTP flushes the stream only once its own buffer is empty.
            self.exchange.written();
        }
        self.noted(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.noted(shut, cx)
    }
}

impl<B> Answer<B> {
    /// The answer to the request with this number.
    pub(super) fn new(body: B, exchange: Arc<Exchange>, number: u64) -> Self {
        Self { body, exchange, number }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Answer<B> {
    fn drop(&mut self) {
        self.exchange.answered(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn wire(stall_max: Duration) -> (Wire<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (stream, peer) = tokio::io::duplex(4);
        (Wire { stall_max, ..Wire::new(stream, vec![], Arc::default()) }, peer)
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_of_an_answer_is_given_up() {
        let (mut wire, _peer) = wire(Duration::from_millis(1));
        wire.write_all(b"full").await.unwrap();
        assert!(wire.stalled.is_none(), "there was room");
        assert_eq!(wire.write_all(b"more").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_takes_a_little_has_all_the_time_again() {
        let (mut wire, mut peer) = wire(STALL_MAX);
        wire.write_all(b"full").await.unwrap();
        for _ in 0..3 {
            let waits = |cx: &mut Context<'_>| Poll::Ready(Pin::new(&mut wire).poll_write(cx, b"x").is_pending());
            assert!(std::future::poll_fn(waits).await);
            assert!(wire.stalled.is_some());
            peer.read_u8().await.unwrap();
            wire.write_u8(b'x').await.unwrap();
            assert!(wire.stalled.is_none());
        }
    }
}
