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
use crate::core::refused::BODY_KEPT_MAX_BYTES;

/// How many times what has come is set aside on the word of a Content-Length: whoever sends a byte now and then
/// holds no room for a body that never comes.
const TRUSTED: usize = 16;
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
    /// What has arrived of it.
    body: BytesMut,
}

/// What was seen of a body that is not wanted.
pub(super) struct Rest {
    /// Its beginning, of at most [`BODY_KEPT_MAX_BYTES`].
    pub(super) body: Bytes,
    /// Its length, if its end was seen or its sender named it.
    pub(super) body_bytes: Option<u64>,
}

impl Rest {
    /// A body that was read to its end, as far as it is kept. A slice of it must not hold on to more.
    pub(super) fn whole(body: &Bytes) -> Self {
        let kept = body.len().min(BODY_KEPT_MAX_BYTES);
        let part = Bytes::copy_from_slice(body.get(..kept).unwrap_or_default());
        Self { body: part, body_bytes: u64::try_from(body.len()).ok() }
    }
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
            body: BytesMut::new(),
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
        while let Some(chunk) = self.stream.next().await {
            let chunk = chunk.map_err(|_| Away::BrokenOff)?;
            let fits = chunk.remaining() <= max_bytes - self.body.len();
            let come = self.body.len() + chunk.remaining();
            if self.body.capacity() < come {
                self.body.reserve(declared.min(TRUSTED * come).saturating_sub(self.body.len()));
            }
            self.body.put(chunk);
            if !fits {
                return Err(Away::TooLarge { max_bytes });
            }
        }
        Ok(std::mem::take(&mut self.body).freeze())
    }

    /// Reads on in the background, within limits, and throws away what is not to be kept; then `seen` is told.
    ///
    /// Closing a connection while its sender still writes resets it, and the sender may see the reset
    /// instead of the answer. One that waits to be asked for its body is simply not asked.
    pub(super) fn linger(mut self, seen: impl FnOnce(Rest) + Send + 'static) {
        if self.held_back {
            return seen(self.rest(None));
        }
        tokio::spawn(async move {
            let drained = tokio::time::timeout(LINGER_MAX, self.drain()).await;
            seen(self.rest(drained.unwrap_or(None)));
        });
    }

    /// The whole body's length, if it ends within limits.
    async fn drain(&mut self) -> Option<u64> {
        let mut bytes = self.body.len();
        while bytes <= LINGER_MAX_BYTES {
            match self.stream.next().await {
                None => return u64::try_from(bytes).ok(),
                Some(Err(_)) => return None,
                Some(Ok(chunk)) => {
                    bytes += chunk.remaining();
                    let room = BODY_KEPT_MAX_BYTES.saturating_sub(self.body.len());
                    self.body.put(chunk.take(room));
                }
            }
        }
        None
    }

    /// What was seen, where its end was seen after `bytes`.
    fn rest(self, bytes: Option<u64>) -> Rest {
        let declared = self.declared_bytes;
        let Rest { body, .. } = Rest::whole(&self.body.freeze());
        Rest { body, body_bytes: bytes.or(declared) }
    }
}
