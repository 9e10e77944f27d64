//! The request body, and whether the connection has taken all of it.
//!
//! A lost answer means something else than a lost request: after the whole request went out the endpoint
//! may have acted on it. So the body is handed over in pieces, and a flag is set once the connection has
//! taken the last one (for an empty body: once it has asked for it). Promise: while the flag is unset the
//! endpoint cannot have the whole body. Not promised is the reverse: up to sixteen pieces wait in the
//! client, and more in the kernel, so a set flag means "may have been received", the careful side.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// How much is handed to the connection at a time, in bytes.
const PIECE_MAX_BYTES: usize = 16 * 1024;

/// Set once the connection has taken the whole body.
#[derive(Debug, Clone, Default)]
pub(super) struct SentWhole(Arc<AtomicBool>);

/// A body of known length that tells when it has been taken.
#[derive(Debug)]
pub(super) struct TrackedBody {
    rest: Bytes,
    sent_whole: SentWhole,
}

impl SentWhole {
    /// Whether the endpoint may have the whole request.
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl TrackedBody {
    /// `body`, which will set `sent_whole`.
    pub(super) const fn new(body: Bytes, sent_whole: SentWhole) -> Self {
        Self { rest: body, sent_whole }
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        let length = self.rest.len().min(PIECE_MAX_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    /// Asked by the connection before the head and after each piece, and by nobody else: a yes is the end.
    fn is_end_stream(&self) -> bool {
        let ended = self.rest.is_empty();
        if ended {
            self.sent_whole.set();
        }
        ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn the_flag_is_set_by_the_last_piece_and_not_before() {
        let whole = Bytes::from(vec![7; PIECE_MAX_BYTES * 2 + 1]);
        let flag = SentWhole::default();
        let mut body = TrackedBody::new(whole.clone(), flag.clone());
        assert_eq!(body.size_hint().exact(), Some(whole.len() as u64));
        let mut task = Context::from_waker(Waker::noop());
        let mut received = Vec::new();
        while !body.is_end_stream() {
            assert!(!flag.get());
            let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut task) else { panic!("no piece") };
            received.extend_from_slice(&frame.into_data().unwrap());
        }
        assert!(flag.get());
        assert_eq!(received, whole);
        assert!(matches!(Pin::new(&mut body).poll_frame(&mut task), Poll::Ready(None)));
    }

    #[test]
    fn an_empty_body_ends_when_asked() {
        let flag = SentWhole::default();
        let body = TrackedBody::new(Bytes::new(), flag.clone());
        assert!(!flag.get());
        assert!(body.is_end_stream() && flag.get());
    }
}
