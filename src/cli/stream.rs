//! A stream of server-sent events, as the feed sends them: one JSON object each.
//!
//! The gateway shows every few seconds that it is still there, so a stream that says nothing for long is lost, whatever
//! the socket says. Absent: coming again, which is for whoever knows what was missed.

use std::time::Duration;

use reqwest::Response;

use crate::admin::wire::Happening;

/// Three times as long as the gateway is ever silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Longest message, in bytes; one is a few hundred.
const MESSAGE_MAX: usize = 1 << 20;

/// What the gateway says as it happens.
#[derive(Debug)]
pub(crate) struct Stream {
    response: Response,
    messages: Messages,
}

/// Messages put together from the pieces that they come in.
#[derive(Debug, Default)]
struct Messages {
    /// Of the line that is not whole yet.
    line: Vec<u8>,
    /// Of the message that is not whole yet.
    data: Vec<u8>,
    whole: std::collections::VecDeque<Vec<u8>>,
}

impl Stream {
    pub(super) fn new(response: Response) -> Self {
        Self { response, messages: Messages::default() }
    }

    /// Waits for what happens next. `None` if the stream is lost. Nothing is lost if the wait is given up.
    pub(crate) async fn next(&mut self) -> Option<Happening> {
        loop {
            if let Some(message) = self.messages.whole.pop_front() {
                // What cannot be read is of a later version.
                return Some(serde_json::from_slice(&message).unwrap_or(Happening::Unknown));
            }
            let chunk = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await.ok()?.ok()??;
            self.messages.add(&chunk)?;
        }
    }
}

impl Messages {
    /// Takes a piece in; `None` if no gateway would send it.
    fn add(&mut self, piece: &[u8]) -> Option<()> {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.take(line.trim_ascii_end());
            }
        }
        (self.line.len() + self.data.len() <= MESSAGE_MAX).then_some(())
    }

    fn take(&mut self, line: &[u8]) {
        if line.is_empty() {
            if !self.data.is_empty() {
                self.whole.push_back(std::mem::take(&mut self.data));
            }
        } else if let Some(data) = line.strip_prefix(b"data:") {
            self.data.extend_from_slice(data.trim_ascii_start());
        }
        // Comments show that somebody is there; what else there is, the data says, too.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_however_they_are_cut() {
        let sent = b": here\n\nevent:begun\nretry:2000\ndata:{\"what\":\"begun\"}\n\nevent:x\r\ndata: {\"a\":1}\r\n\r\n:\n\ndata:cut";
        for size in 1..sent.len() {
            let mut messages = Messages::default();
            sent.chunks(size).for_each(|piece| messages.add(piece).unwrap());
            let whole: Vec<Vec<u8>> = messages.whole.into();
            assert_eq!(whole, [b"{\"what\":\"begun\"}".to_vec(), b"{\"a\":1}".to_vec()], "in pieces of {size}");
        }
    }

    #[test]
    fn what_has_no_end_is_no_message() {
        let mut messages = Messages::default();
        assert!(messages.add(&vec![b'x'; MESSAGE_MAX + 1]).is_none());
    }
}
