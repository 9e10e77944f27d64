//! Reading a body: under a cap, under a deadline, and copied once.
//!
//! The copy is wanted: what hyper hands out are slices of the connection's read buffer, and an event that
//! is kept in memory must not keep that buffer with it.

use std::pin::Pin;
use std::time::Duration;

use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, EXPECT};

use super::away::Away;

/// Most bytes set aside on the word of a Content-Length alone.
const TRUSTED_MAX_BYTES: usize = 64 << 10;
/// Most bytes read and thrown away of a body that is not wanted.
const LINGER_MAX_BYTES: usize = 16 << 20;
/// Longest time that is done for.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// A body on its way.
pub(super) struct Arriving<S> {
    stream: Pin<Box<S>>,
    /// By the Content-Length.
    declared_bytes: Option<u64>,
    /// The sender holds the body back until it is asked for.
    held_back: bool,
}

impl<S, B, E> Arriving<S>
where
    S: Stream<Item = Result<B, E>> + Send + 'static,
    B: Buf + Send,
    E: Send,
{
    pub(super) fn new(stream: S, headers: &HeaderMap) -> Self {
        let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Self {
            stream: Box::pin(stream),
            declared_bytes: declared.and_then(|value| value.parse().ok()),
            held_back: headers.contains_key(EXPECT),
        }
    }

    /// The whole body, of at most `max_bytes`, if it is there within `timeout`.
    ///
    /// One declared larger is not begun to be read.
    pub(super) async fn read(&mut self, max_bytes: usize, timeout: Duration) -> Result<Bytes, Away> {
        let max = u64::try_from(max_bytes).unwrap_or(u64::MAX);
        if self.declared_bytes.is_some_and(|declared| declared > max) {
            return Err(Away::TooLarge { max_bytes });
        }
        let read = tokio::time::timeout(timeout, self.read_to_end(max_bytes)).await;
        read.unwrap_or(Err(Away::Slow { timeout }))
    }

    async fn read_to_end(&mut self, max_bytes: usize) -> Result<Bytes, Away> {
        let declared = self.declared_bytes.and_then(|declared| usize::try_from(declared).ok()).unwrap_or(0);
        let mut body = BytesMut::with_capacity(declared.min(TRUSTED_MAX_BYTES));
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk.map_err(|_| Away::BrokenOff)?;
            if chunk.remaining() > max_bytes - body.len() {
                return Err(Away::TooLarge { max_bytes });
            }
            body.put(chunk);
        }
        Ok(body.freeze())
    }

    /// Reads on in the background, within limits, and throws it away.
    ///
    /// Closing a connection while its sender still writes resets it, and the sender may see the reset
    /// instead of the answer. One that waits to be asked for its body is simply not asked.
    pub(super) fn linger(mut self) {
        if self.held_back {
            return;
        }
        let drain = async move {
            let mut bytes = 0;
            while bytes <= LINGER_MAX_BYTES
                && let Some(Ok(chunk)) = self.stream.next().await
            {
                bytes += chunk.remaining();
            }
        };
        tokio::spawn(tokio::time::timeout(LINGER_MAX, drain));
    }
}
