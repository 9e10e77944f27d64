//! Which event an imported one was made of.
//!
//! An import notes the original in the event itself: as its first header, and as the print by which the same original is
//! known again. Only if both say the same is it believed, so no sender can claim it, whatever headers it sends: prints of
//! a source's own events are digests of something else. It is none of the sender's headers, and no endpoint is told it.

use std::str::FromStr as _;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::event::{Dedup, Draft, Fingerprint, Header};
use super::id::EventId;

/// The header that names the original.
const NAME: &str = "backstop-original";
/// For how long the same original makes no second event.
const WINDOW: Duration = Duration::from_secs(365 * 86_400);

impl Draft {
    /// Notes that this will be a copy of `original`, and no second one.
    #[must_use]
    pub fn copied_from(mut self, original: EventId) -> Self {
        self.headers.insert(0, Header { name: NAME.to_owned(), value: original.to_string().into() });
        self.dedup = Some(Dedup { fingerprint: print(original), window: WINDOW });
        self
    }

    /// The event that this is a copy of.
    #[must_use]
    pub fn original(&self) -> Option<EventId> {
        let noted = self.headers.first().filter(|header| header.name == NAME)?;
        let original = EventId::from_str(std::str::from_utf8(&noted.value).ok()?).ok()?;
        (self.dedup?.fingerprint == print(original)).then_some(original)
    }

    /// The headers that the sender sent.
    #[must_use]
    pub fn sent_headers(&self) -> &[Header] {
        self.headers.get(usize::from(self.original().is_some())..).unwrap_or_default()
    }
}

/// What a copy is known by. No event of a source's own has it: theirs are hashes of other parts.
fn print(original: EventId) -> Fingerprint {
    let digest: [u8; 32] =
        Sha256::new().chain_update(b"imported ").chain_update(original.to_string()).finalize().into();
    let mut print = [0; 16];
    print.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    Fingerprint(print)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::name::Name;

    fn draft() -> Draft {
        Draft {
            source: Name::new("flyflow").unwrap(),
            event_type: "call_ended".to_owned(),
            key: None,
            occurred_at: None,
            headers: vec![Header { name: "x-a".to_owned(), value: "1".into() }],
            body: "{}".into(),
            dedup: None,
            endpoints: vec![],
        }
    }

    #[test]
    fn a_copy_knows_its_original_and_has_the_senders_headers() {
        let (one, other) = (EventId::from_u128(1), EventId::from_u128(2));
        assert_eq!((draft().original(), draft().sent_headers()), (None, &draft().headers[..]));
        let copy = draft().copied_from(one);
        assert_eq!((copy.original(), copy.sent_headers()), (Some(one), &draft().headers[..]));
        assert_eq!(copy.dedup, draft().copied_from(one).dedup);
        assert_ne!(copy.dedup, draft().copied_from(other).dedup);
    }

    #[test]
    fn no_sender_can_claim_one() {
        let original = EventId::from_u128(1);
        let copy = draft().copied_from(original);
        for dedup in [None, draft().copied_from(EventId::from_u128(2)).dedup] {
            let claimed = Draft { dedup, ..copy.clone() };
            assert_eq!(claimed.original(), None);
            assert_eq!(claimed.sent_headers(), &copy.headers[..], "it is one of the sender's then");
        }
        let mut later = copy.clone();
        later.headers.rotate_left(1);
        assert_eq!(later.original(), None);
    }
}
