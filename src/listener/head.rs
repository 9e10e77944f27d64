//! The beginning of a request, read before HTTP is spoken: who is slow costs what he has sent and no more.
//!
//! While a connection waits it holds no buffer at all. Bytes that come are gathered until they hold a whole head
//! (an empty line), too much for one, or what cannot be one; what they mean, right or wrong, is hyper's to say.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::HEADER_MAX_BYTES;

/// Read at a time; on the stack.
const STEP_BYTES: usize = 2048;

/// What has come of a head.
#[derive(Debug, Default)]
pub(super) struct Head {
    bytes: Vec<u8>,
    /// Up to here no end was found.
    seen: usize,
}

impl Head {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, seen: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether there is enough for hyper to say something about it.
    pub(super) fn is_ready(&mut self) -> bool {
        // Empty lines before a request line are skipped (RFC 9112, 2.2); without them the buffer stays small.
        if self.seen == 0 {
            let blank = self.bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.bytes.drain(..blank);
        }
        let Some(first) = self.bytes.first() else { return false };
        if !first.is_ascii_graphic() || self.bytes.len() > HEADER_MAX_BYTES {
            return true;
        }
        let from = self.seen.saturating_sub(3);
        self.seen = self.bytes.len();
        let fresh = self.bytes.get(from..).unwrap_or_default();
        // A bare line feed ends a line, too, for whoever is lenient: then it ends one here.
        let ends = |window: &[u8]| window.starts_with(b"\n\n") || window.starts_with(b"\n\r\n");
        (0..fresh.len()).any(|at| fresh.get(at..).is_some_and(ends))
    }

    /// Takes in what is there, at least a byte; false at the end of the stream.
    pub(super) fn poll_more(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); STEP_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        self.bytes.reserve_exact(read.len());
        self.bytes.extend_from_slice(read);
        Poll::Ready(Ok(!read.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many bytes, coming one by one, it is ready.
    fn ready_after(bytes: &[u8]) -> Option<usize> {
        let mut head = Head::default();
        let mut came = 0;
        bytes.iter().find_map(|byte| {
            head.bytes.push(*byte);
            came += 1;
            head.is_ready().then_some(came)
        })
    }

    #[test]
    fn a_head_is_ready_with_its_empty_line_and_not_before() {
        for whole in [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], b"GET / HTTP/1.1\nhost: x\n\n", b"GET /\r\n\n"] {
            assert_eq!(ready_after(whole), Some(whole.len()));
            assert!(Head::new(whole.to_vec()).is_ready());
        }
        assert_eq!(ready_after(b"\r\n\r\n\n\nGET / HTTP/1.1\r\n"), None, "empty lines before it end nothing");
        assert_eq!(ready_after(b"\n\nG\n\n"), Some(5));
        assert_eq!(ready_after(b"GET / HTTP/1.1\r\nhost: x\r\nx: \r\r\n"), None);
    }

    #[test]
    fn what_cannot_be_a_head_is_not_waited_for() {
        assert_eq!(ready_after(&[0x16, 3, 1]), Some(1), "TLS on a plain listener");
        assert_eq!(ready_after(&vec![b'x'; HEADER_MAX_BYTES * 2]), Some(HEADER_MAX_BYTES + 1));
    }
}
