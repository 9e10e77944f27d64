//! A request on its way in: its body, which must keep coming, and whether all of the request is over.
//!
//! [`Upload`] is the body that services read. It ends in an error once less than a least number of bytes came in
//! [`SPAN`], so that nobody holds a request open by a byte now and then, whatever time the whole body may take.
//! [`Exchange`] is what a connection knows of its request: nothing is open once the body was read to its end, the
//! answer has gone into the connection's buffer and that was written. Then, and only then, whatever comes next is
//! the beginning of another request. Absent: HTTP, and deadlines for whole bodies, which whoever reads them has.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

/// Over how much time a body's progress is measured.
const SPAN: Duration = Duration::from_secs(5);

/// The body was not read to its end.
const BODY: u64 = 1;
/// The answer was not given to the connection whole.
const ANSWER: u64 = 2;
/// Something of it was not written.
const UNWRITTEN: u64 = 4;
/// Behind these: the number of the request. A body may be read to its end elsewhere, and late; that must not be
/// taken for the end of the next request's.
const FLAGS: u32 = 3;

/// What a connection knows of the request that it serves.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    state: AtomicU64,
    /// Whoever drives the connection, to be told when a body ends elsewhere.
    driver: AtomicWaker,
}

/// A request's body, watched.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    /// Fewest bytes in a [`SPAN`].
    least: u64,
    /// Running while the sender is waited for: when the span ends, and what came in it.
    span: Option<(Pin<Box<Sleep>>, u64)>,
    /// Until the end was seen: whose, and its number.
    exchange: Option<(Arc<Exchange>, u64)>,
}

/// Why a body ended before its end.
#[derive(Debug)]
pub enum UploadError {
    /// It came too slowly.
    Slow,
    /// The connection broke, or the body makes no sense.
    Broken(hyper::Error),
}

impl Exchange {
    /// A request has begun; its number.
    pub(crate) fn begin(&self, has_body: bool) -> u64 {
        let open = if has_body { ANSWER | BODY } else { ANSWER };
        let next = |state: u64| Some((((state >> FLAGS) + 1) << FLAGS) | open | (state & UNWRITTEN));
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).unwrap_or_default();
        (before >> FLAGS) + 1
    }

    /// All of the answer to this request was handed over.
    pub(crate) fn answered(&self, number: u64) {
        self.close(number, ANSWER);
    }

    /// Something was written, but not all is certain to be.
    pub(crate) fn unwritten(&self) {
        self.state.fetch_or(UNWRITTEN, Ordering::AcqRel);
    }

    /// All was written.
    pub(crate) fn written(&self) {
        self.state.fetch_and(!UNWRITTEN, Ordering::AcqRel);
    }

    /// Whether no request is under way, so that what comes next is the beginning of one.
    pub(crate) fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) & (BODY | ANSWER | UNWRITTEN) == 0
    }

    /// How many requests have begun.
    pub(crate) fn begun(&self) -> u64 {
        self.state.load(Ordering::Acquire) >> FLAGS
    }

    /// Who is to be told when the body ends.
    pub(crate) fn watch(&self, driver: &Waker) {
        self.driver.register(driver);
    }

    fn body_ended(&self, number: u64) {
        self.close(number, BODY);
        self.driver.wake();
    }

    /// Clears a flag, if the request is still that one.
    fn close(&self, number: u64, flag: u64) {
        let closed = |state: u64| (state >> FLAGS == number).then_some(state & !flag);
        let _is_that_one = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, closed).is_ok();
    }
}

impl Upload {
    /// The body of a request that begins on this connection; it must bring `least_per_sec` bytes a second, if it has
    /// any. With the request's number.
    pub(crate) fn begin(body: Incoming, least_per_sec: u32, exchange: &Arc<Exchange>) -> (Self, u64) {
        let least = u64::from(least_per_sec) * SPAN.as_secs();
        let has_body = !body.is_end_stream();
        let number = exchange.begin(has_body);
        let exchange = has_body.then(|| (Arc::clone(exchange), number));
        (Self { body, least, span: None, exchange }, number)
    }

    /// The sender is waited for: not for ever.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if self.least == 0 {
            return Poll::Pending;
        }
        let (end, bytes) = self.span.get_or_insert_with(|| (Box::pin(tokio::time::sleep(SPAN)), 0));
        ready!(end.as_mut().poll(cx));
        if *bytes < self.least {
            return Poll::Ready(Some(Err(UploadError::Slow)));
        }
        *bytes = 0;
        end.as_mut().reset(Instant::now() + SPAN);
        // Polled once more, so that the new end wakes.
        self.wait(cx)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Poll::Ready(next) = Pin::new(&mut self.body).poll_frame(cx) else { return self.wait(cx) };
        match next {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| u64::try_from(data.remaining()).unwrap_or(u64::MAX));
                if let Some((_, so_far)) = &mut self.span {
                    *so_far = so_far.saturating_add(bytes);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(UploadError::Broken(error)))),
            None => {
                if let Some((exchange, number)) = self.exchange.take() {
                    exchange.body_ended(number);
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Not before the end was seen: whoever asks need not poll any more.
        self.exchange.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Display for UploadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow => f.write_str("the body came too slowly"),
            Self::Broken(error) => write!(f, "the body broke off: {error}"),
        }
    }
}

impl Error for UploadError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_over_once_read_answered_and_written() {
        let exchange = Exchange::default();
        assert!(exchange.is_over());
        let number = exchange.begin(true);
        exchange.unwritten();
        let ends: [&dyn Fn(); 3] =
            [&|| exchange.body_ended(number), &|| exchange.answered(number), &|| exchange.written()];
        for end in ends {
            assert!(!exchange.is_over());
            end();
        }
        assert!(exchange.is_over());
        assert_eq!(exchange.begun(), 1);
    }

    #[test]
    fn what_ends_late_ends_no_other_request() {
        let exchange = Exchange::default();
        let first = exchange.begin(true);
        exchange.unwritten();
        let second = exchange.begin(true);
        exchange.body_ended(first);
        exchange.answered(first);
        exchange.answered(second);
        exchange.written();
        assert!(!exchange.is_over(), "the second's body was not read");
        exchange.body_ended(second);
        assert!(exchange.is_over());
    }
}
