//! What the senders post.

use std::time::Duration;

use backstop::core::event::{Dedup, Draft, Fingerprint};
use backstop::core::id::EventId;
use backstop::core::name::Name;
use bytes::Bytes;
use fastrand::Rng;

/// An event that its sender posts until it is acknowledged.
pub(crate) struct Post {
    pub(crate) draft: Draft,
    pub(crate) acknowledged: Option<EventId>,
}

pub(crate) fn key(number: u64) -> String {
    format!("call-{number}")
}

/// An event to some of the endpoints; some have no key.
pub(crate) fn post(index: usize, (keys, window): (u64, u64), endpoints: &[Name], rng: &mut Rng) -> Post {
    let mut print = [0; 16];
    print[..8].copy_from_slice(&(index as u64).to_be_bytes());
    let dedup = Dedup { fingerprint: Fingerprint(print), window: Duration::from_millis(window) };
    let some: Vec<Name> = endpoints.iter().filter(|_| rng.u32(0..4) > 0).cloned().collect();
    let draft = Draft {
        source: Name::new("sim").unwrap(),
        event_type: "call".to_owned(),
        key: (rng.u32(0..8) > 0).then(|| key(rng.u64(0..keys))),
        occurred_at: None,
        headers: vec![],
        body: Bytes::new(),
        dedup: Some(dedup),
        endpoints: if some.is_empty() { endpoints.to_vec() } else { some },
    };
    Post { draft, acknowledged: None }
}
