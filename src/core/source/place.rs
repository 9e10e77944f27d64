//! A place in a request where a source reads something: in its JSON, in a header, in its form.

use std::fmt;

use super::Said;
use crate::core::form;
use crate::core::timestamp::Timestamp;

/// Where something stands in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a JSON body, by a pointer (RFC 6901), e.g. `/event_type`.
    Pointer(String),
    /// In the first header of this name (lower case).
    Header(String),
    /// In a form, the first field of this name.
    Form(String),
}

/// What a header's name is written behind.
pub(super) const HEADER: &str = "header:";
/// What a form field's name is written behind.
pub(super) const FORM: &str = "form:";
/// A count of time that is larger is one of milliseconds: as seconds it would be in the year 5138.
const SECONDS_MAX: u64 = 99_999_999_999;

impl Place {
    /// What stands there, if it is a text and not empty.
    pub(super) fn read(&self, said: &Said<'_>) -> Option<String> {
        let bytes = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
        let found = match self {
            Self::Pointer(pointer) => said.fields?.text(pointer),
            Self::Header(name) => {
                let header = said.headers.iter().find(|header| header.name == *name)?;
                bytes(&header.value)
            }
            Self::Form(name) if said.is_form() => form::value(said.body, name).and_then(|value| bytes(&value)),
            Self::Form(_) => None,
        };
        found.filter(|text| !text.is_empty())
    }
}

impl Said<'_> {
    /// Whether the body says that it is a form.
    fn is_form(&self) -> bool {
        let kind = self.headers.iter().find(|header| header.name == "content-type");
        kind.is_some_and(|kind| form::is_type(&kind.value))
    }
}

/// A time as senders write it: RFC 3339, or seconds or milliseconds since 1970.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let counts = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !counts {
        return Timestamp::parse_rfc3339(text);
    }
    let count: u64 = text.parse().ok()?;
    Some(Timestamp::from_millis(if count > SECONDS_MAX { count } else { count * 1000 }))
}

impl fmt::Display for Place {
    /// As it is written in the config.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(pointer) => f.write_str(pointer),
            Self::Header(name) => write!(f, "{HEADER}{name}"),
            Self::Form(name) => write!(f, "{FORM}{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Header;
    use bytes::Bytes;

    #[test]
    fn headers_and_forms_are_read_where_they_are() {
        let header =
            |name: &str, value: &'static [u8]| Header { name: name.to_owned(), value: Bytes::from_static(value) };
        let headers = [
            header("content-type", b"application/x-www-form-urlencoded; charset=utf-8"),
            header("x-topic", b" a/b "),
            header("x-raw", b"\xff"),
        ];
        let body = b"Sid=SM1&Status=sent+now&Empty=&Bad=%ff";
        let form = Said { fields: None, headers: &headers, body };
        let read = |place: Place| place.read(&form);
        assert_eq!(read(Place::Header("x-topic".into())).as_deref(), Some("a/b"));
        assert_eq!(read(Place::Header("x-raw".into())), None);
        assert_eq!(read(Place::Header("x-none".into())), None);
        assert_eq!(read(Place::Form("Status".into())).as_deref(), Some("sent now"));
        for name in ["Empty", "Bad", "sid"] {
            assert_eq!(read(Place::Form(name.into())), None, "{name}");
        }
        assert_eq!(read(Place::Pointer("/Sid".into())), None);
        let no_form = Said { fields: None, headers: &[], body };
        assert_eq!(Place::Form("Sid".into()).read(&no_form), None);
    }

    #[test]
    fn times_are_texts_or_counts() {
        let at = |millis| Some(Timestamp::from_millis(millis));
        for (text, expected) in [
            ("2023-06-08T10:30:00Z", at(1_686_220_200_000)),
            ("1686220200", at(1_686_220_200_000)),
            ("1686220200123", at(1_686_220_200_123)),
            ("0", at(0)),
            ("-1", None),
            ("", None),
            ("1686220200.5", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
