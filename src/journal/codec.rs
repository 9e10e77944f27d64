//! The primitives of everything on disk: little words, written and read in one place.
//!
//! Integers are LEB128 varints, ids 16 big-endian bytes, texts and bytes a length and the bytes, options
//! a 0 or a 1 and the value. Reading never panics: what does not fit is [`None`].

use std::time::Duration;

use bytes::{Buf as _, Bytes};

use crate::core::event::Header;
use crate::core::id::{DeliveryId, EventId, ReplayId};
use crate::core::name::Name;
use crate::core::timestamp::{Timestamp, duration_millis};

/// Appends values to a buffer.
pub(crate) trait Write {
    fn byte(&mut self, value: u8);
    fn raw(&mut self, value: &[u8]);

    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.byte(value.to_le_bytes()[0]);
    }
    fn bytes(&mut self, value: &[u8]) {
        self.number(value.len() as u64);
        self.raw(value);
    }
    fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }
    fn flag(&mut self, value: bool) {
        self.byte(u8::from(value));
    }
    fn time(&mut self, value: Timestamp) {
        self.number(value.millis());
    }
    fn span(&mut self, value: Duration) {
        self.number(duration_millis(value));
    }
    fn event(&mut self, value: EventId) {
        self.raw(&value.as_u128().to_be_bytes());
    }
    fn replay(&mut self, value: ReplayId) {
        self.raw(&value.as_u128().to_be_bytes());
    }
    fn delivery(&mut self, value: DeliveryId) {
        self.event(value.event);
        self.number(u64::from(value.slot));
    }
    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T))
    where
        Self: Sized,
    {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
    fn list<T>(&mut self, values: &[T], write: impl Fn(&mut Self, &T))
    where
        Self: Sized,
    {
        self.number(values.len() as u64);
        for value in values {
            write(self, value);
        }
    }
    fn headers(&mut self, headers: &[Header])
    where
        Self: Sized,
    {
        self.list(headers, |out, header| {
            out.text(&header.name);
            out.bytes(&header.value);
        });
    }
}

impl Write for Vec<u8> {
    fn byte(&mut self, value: u8) {
        self.push(value);
    }
    fn raw(&mut self, value: &[u8]) {
        self.extend_from_slice(value);
    }
}

/// Takes values off the front of a buffer.
#[derive(Debug)]
pub(crate) struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Byte strings that are read share the buffer.
    pub(crate) const fn new(buffer: Bytes) -> Self {
        Self { rest: buffer }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    /// What has not been read.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.rest
    }
    pub(crate) fn take(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.rest.len()).then(|| self.rest.split_to(len))
    }
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let byte = self.rest.first().copied()?;
        self.rest.advance(1);
        Some(byte)
    }
    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    pub(crate) fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }
    pub(crate) fn bytes(&mut self) -> Option<Bytes> {
        let len = self.small()?;
        self.take(len)
    }
    pub(crate) fn text(&mut self) -> Option<String> {
        let len: usize = self.small()?;
        let text = std::str::from_utf8(self.rest.get(..len)?).ok()?.to_owned();
        self.rest.advance(len);
        Some(text)
    }
    pub(crate) fn name(&mut self) -> Option<Name> {
        Name::new(std::str::from_utf8(&self.bytes()?).ok()?).ok()
    }
    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
    pub(crate) fn time(&mut self) -> Option<Timestamp> {
        self.number().map(Timestamp::from_millis)
    }
    pub(crate) fn span(&mut self) -> Option<Duration> {
        self.number().map(Duration::from_millis)
    }
    fn id(&mut self) -> Option<u128> {
        let id = u128::from_be_bytes(*self.rest.first_chunk()?);
        self.rest.advance(16);
        Some(id)
    }
    pub(crate) fn event(&mut self) -> Option<EventId> {
        self.id().map(EventId::from_u128)
    }
    pub(crate) fn replay(&mut self) -> Option<ReplayId> {
        self.id().map(ReplayId::from_u128)
    }
    pub(crate) fn delivery(&mut self) -> Option<DeliveryId> {
        Some(DeliveryId { event: self.event()?, slot: self.small()? })
    }
    pub(crate) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }
    pub(crate) fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count: usize = self.small()?;
        // Every item takes at least a byte: a count beyond the buffer is damage, not a reason to allocate.
        if count > self.rest.len() {
            return None;
        }
        (0..count).map(|_| read(self)).collect()
    }
    pub(crate) fn headers(&mut self) -> Option<Vec<Header>> {
        self.list(|from| Some(Header { name: from.text()?, value: from.bytes()? }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_round_trip(value: u64) {
            let mut out = Vec::new();
            out.number(value);
            let mut reader = Reader::new(out.into());
            prop_assert_eq!(reader.number(), Some(value));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn reading_noise_never_panics(noise: Vec<u8>) {
            let read = |read: &dyn Fn(&mut Reader)| read(&mut Reader::new(noise.clone().into()));
            read(&|from| { let _ = from.headers(); });
            read(&|from| { let _ = from.delivery(); });
            read(&|from| { let _ = from.option(Reader::text); });
            read(&|from| { let _ = from.name(); });
        }
    }

    #[test]
    fn a_number_too_large_for_64_bits_is_refused() {
        assert_eq!(Reader::new(Bytes::from_static(&[0xff; 10])).number(), None);
    }
}
