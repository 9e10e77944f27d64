//! The small languages inside config texts: durations, sizes, names, pointers, addresses, URLs, headers.
//!
//! Every parser says in its error what to write instead, and never repeats what was written.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use reqwest::Url;

use crate::core::event::TYPE_LEN_MAX;
use crate::core::name::Name;
use crate::core::source::Place;
use crate::core::timestamp::parse_span;

/// The longest duration that can be asked for: the longest year.
const DURATION_MAX: Duration = Duration::from_secs(366 * 24 * 3600);
/// Longest JSON pointer, in bytes.
const POINTER_LEN_MAX: usize = 256;
/// Longest URL, in bytes: what HTTP servers are told to take at least (RFC 9110, 4.1).
const URL_LEN_MAX: usize = 8000;

/// Whether `name` can name an environment variable.
pub(super) fn is_variable(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(plain) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

/// A time span from 1 ms to 366 days.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match parse_span(text) {
        None => Err("not a duration; write one like \"500ms\", \"15s\", \"1h 30m\" or \"7d\"".to_owned()),
        Some(span) if (Duration::from_millis(1)..=DURATION_MAX).contains(&span) => Ok(span),
        Some(_) => Err("must be from 1ms to 8784h (366 days)".to_owned()),
    }
}

/// A number of bytes written with its unit.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let shape = || "not a size; write one like \"512KiB\" or \"25MiB\", or a whole number of bytes".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(shape)?;
    let shift = match unit.trim_start() {
        "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(shape()),
    };
    let number: u64 = number.parse().map_err(|_| shape())?;
    Ok(number.saturating_mul(1 << shift))
}

pub(super) fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

/// A JSON pointer to a field (RFC 6901).
pub(super) fn pointer(text: &str) -> Result<String, String> {
    let escapes_whole = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if !text.starts_with('/') {
        Err("not a JSON pointer; one starts with \"/\", like \"/data/id\" (RFC 6901)".to_owned())
    } else if !escapes_whole {
        Err("in a JSON pointer \"~\" is written \"~0\" and a \"/\" inside a name \"~1\" (RFC 6901)".to_owned())
    } else if text.len() > POINTER_LEN_MAX {
        Err(format!("a JSON pointer has at most {POINTER_LEN_MAX} bytes here"))
    } else {
        Ok(text.to_owned())
    }
}

/// Where something stands in a request: a JSON pointer, `header:` or `form:` and a name.
pub(super) fn place(text: &str) -> Result<Place, String> {
    if let Some(name) = text.strip_prefix("header:") {
        return header_name(name).map(Place::Header);
    }
    if let Some(name) = text.strip_prefix("form:") {
        let fits = (1..=POINTER_LEN_MAX).contains(&name.len());
        return if fits { Ok(Place::Form(name.to_owned())) } else { Err("names no field of a form".to_owned()) };
    }
    let or_else = |message| format!("{message}; other places are \"header:x-event\" and \"form:EventType\"");
    pointer(text).map(Place::Pointer).map_err(or_else)
}

/// What stands before the path in a URL, without a `/` at its end.
pub(super) fn public_url(text: &str) -> Result<String, String> {
    let parsed = Url::parse(text).ok().filter(|url| url.query().is_none());
    if parsed.is_none() || url(text).is_err() {
        return Err("must be what stands before /in/ in the URL, like \"https://hooks.example.com\"".to_owned());
    }
    // As it is written: it is signed letter by letter.
    Ok(text.trim_end_matches('/').to_owned())
}

/// An event type, or the start of one and a `*`.
pub(super) fn type_pattern(text: &str) -> Result<String, String> {
    let start = text.strip_suffix('*').unwrap_or(text);
    if text.is_empty() {
        Err("is empty; leave `types` out to take every type".to_owned())
    } else if start.contains('*') {
        Err("`*` can only stand at the end".to_owned())
    } else if start.len() > TYPE_LEN_MAX {
        Err(format!("no event type is longer than {TYPE_LEN_MAX} bytes, so this matches none"))
    } else {
        Ok(text.to_owned())
    }
}

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "not an address; write an IP and a port, like \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\"".to_owned()
    })
}

/// An absolute http or https URL, normalized.
pub(super) fn url(text: &str) -> Result<String, String> {
    let absolute = "must be an absolute URL, like \"https://example.com/webhook\"";
    let url = Url::parse(text).map_err(|error| format!("{absolute}: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        Err(format!("{absolute}; only http and https are delivered to"))
    } else if !url.username().is_empty() || url.password().is_some() {
        Err("holds a user or password; put credentials into `headers`, as authorization".to_owned())
    } else if url.fragment().is_some() {
        Err("holds a fragment (`#…`), which HTTP never sends; remove it".to_owned())
    } else if url.as_str().len() > URL_LEN_MAX {
        Err(format!("a URL has at most {URL_LEN_MAX} bytes here"))
    } else {
        Ok(url.into())
    }
}

/// A header's name, in lower case.
pub(super) fn header_name(text: &str) -> Result<String, String> {
    HeaderName::from_bytes(text.as_bytes())
        .map(|name| name.as_str().to_owned())
        .map_err(|_| "not a header name; one has letters, digits and '-'".to_owned())
}

pub(super) fn header_value(text: &str) -> Result<String, String> {
    HeaderValue::from_str(text)
        .map(|_| text.to_owned())
        .map_err(|_| "not a header value; one is a single line without control characters".to_owned())
}

/// A status from 300 to 599, or a range of them, both ends included.
pub(super) fn failure_statuses(text: &str) -> Result<(u16, u16), String> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (300..=599).contains(status));
    match (status(low), status(high)) {
        (Some(low), Some(high)) if low <= high => Ok((low, high)),
        _ => Err("must be a status from 300 to 599, or a range like \"401-403\"".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spans_of_a_millisecond_to_a_year() {
        for (text, ms) in [
            ("1ms", 1),
            ("500ms", 500),
            ("15s", 15_000),
            ("1h 30m", 5_400_000),
            ("24h", 86_400_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "15", "0s", "-1s", "1s ago", "1ns", "8785h", "367d", "soon", "99999999999999999999h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        for (text, bytes) in [("0B", 0), ("512KiB", 512 << 10), ("25 MiB", 25 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(size("18446744073709551615GiB"), Ok(u64::MAX));
        for bad in ["", "1", "MiB", "1MB", "1.5MiB", "-1MiB", "é", "1é", "99999999999999999999B"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pointers_follow_the_rfc() {
        for good in ["/", "/a", "/a/0/b", "/a~1b~0c"] {
            assert_eq!(pointer(good).as_deref(), Ok(good));
        }
        for bad in ["", "a", "#/a", "/a~", "/~2", &format!("/{}", "x".repeat(256))] {
            assert!(pointer(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn statuses_are_failures_alone_or_in_ranges() {
        assert_eq!(failure_statuses("404"), Ok((404, 404)));
        assert_eq!(failure_statuses("401-403"), Ok((401, 403)));
        for bad in ["", "200", "299-400", "600", "403-401", "4xx", "-", "401-402-403"] {
            assert!(failure_statuses(bad).is_err(), "{bad}");
        }
    }
}
