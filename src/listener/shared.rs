//! What all connections of a listener share.

use std::sync::Arc;

use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::sync::Notify;

use super::{BUFFER_MAX_BYTES, HEADER_MAX_BYTES, Limits};

/// What all connections of a listener share.
#[derive(Debug)]
pub(super) struct Shared<S> {
    pub(super) http: http1::Builder,
    pub(super) limits: Limits,
    pub(super) service: Arc<S>,
    /// One is told that somebody waits for a connection: of those that idle, the one that does for longest.
    pub(super) room_wanted: Arc<Notify>,
}

impl<S> Shared<S> {
    pub(super) fn new(service: S, limits: Limits, room_wanted: Arc<Notify>) -> Self {
        let mut http = http1::Builder::new();
        // Not set: the number of header lines. `HEADER_LINES_MAX` is hyper's own limit, and cheapest left alone. Its
        // own time for headers is the last resort, where a body was left unread: else the connection sees to it.
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.idle_timeout.max(limits.header_timeout))
            .max_header_size(HEADER_MAX_BYTES)
            .max_buf_size(BUFFER_MAX_BYTES);
        Self { http, limits, service: Arc::new(service), room_wanted }
    }
}
