//! Entity tags (RFC 9110, 8.8.3): who has an answer already is told so in a line.
//!
//! A tag is a digest of the whole answer, so it is right whatever the answer is made of, and the same in every process.

use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use warp::reply::Response;

/// Bytes of the digest that make a tag.
const LEN: usize = 16;

/// What stands for these bytes.
pub(super) fn of(bytes: &[u8]) -> Option<HeaderValue> {
    let digest = Sha256::digest(bytes);
    let digits: String = digest.iter().take(LEN).map(|byte| format!("{byte:02x}")).collect();
    HeaderValue::from_str(&format!("\"{digits}\"")).ok()
}

/// The tags of the answers that whoever asks has.
pub(super) fn known(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(IF_NONE_MATCH).iter().cloned().collect()
}

/// The response, or 304 if what it says is among those tags.
pub(super) fn unless_known(mut response: Response, known: &[HeaderValue]) -> Response {
    let Some(tag) = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()) else { return response };
    let lists = known.iter().filter_map(|known| known.to_str().ok());
    let mut each = lists.flat_map(|list| list.split(',')).map(|known| known.trim().trim_start_matches("W/"));
    if !each.any(|known| known == tag || known == "*") {
        return response;
    }
    let mut same = Response::default();
    *same.status_mut() = StatusCode::NOT_MODIFIED;
    for name in [ETAG, CACHE_CONTROL] {
        same.headers_mut().extend(response.headers_mut().remove(&name).map(|value| (name, value)));
    }
    same
}

/// The response of something that was done: what it says is nothing that could be asked for again.
pub(super) fn without(mut response: Response) -> Response {
    response.headers_mut().remove(ETAG);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_it_is_not_sent_it_again() {
        let answer = || {
            let mut response = Response::new("text".into());
            response.headers_mut().insert(ETAG, of(b"text").unwrap());
            response
        };
        let tag = of(b"text").unwrap().to_str().unwrap().to_owned();
        let asked = |headers: &[&str]| {
            let mut map = HeaderMap::new();
            for value in headers {
                map.append(IF_NONE_MATCH, value.parse().unwrap());
            }
            unless_known(answer(), &known(&map)).status().as_u16()
        };
        assert_eq!(asked(&[]), 200);
        assert_eq!([asked(&[&tag]), asked(&[&format!("\"a\", W/{tag}")]), asked(&["*"])], [304; 3]);
        assert_eq!(asked(&["\"a\"", &tag]), 304);
        assert_eq!([asked(&["\"a\""]), asked(&[tag.trim_matches('"')])], [200; 2]);
        assert_ne!(of(b"text"), of(b"texts"));
        assert_eq!(unless_known(Response::new("x".into()), &["*".parse().unwrap()]).status(), 200);
    }
}
