//! The dashboard: one page with its style and scripts, built into the program, in front of the admin API.
//!
//! It is files and nothing else: whatever it shows it asks of the public admin API, in the browser, with the session
//! that a token has begun there. Promises: the page runs no script and loads nothing that is not in this folder, says
//! so to the browser ([`POLICY`]), and is in no other page's frame; files are told apart by what is in them (`ETag`), so
//! that a new program is never shown with an old page. Absent: anything about deliveries, and who may see what.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::service::{Service, service_fn};
use sha2::{Digest as _, Sha256};

use crate::core::secret::hex;

/// What the page may do: run and show what comes from here, ask here, and nothing else.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                          base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
/// Where its files are.
const FOLDER: &str = "/dashboard/";
/// What nobody needs here.
const PERMISSIONS: &str = "camera=(), microphone=(), geolocation=(), payment=(), usb=()";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! files {
    ($($kind:ident $name:literal),* $(,)?) => {
        /// Every file: its name, its type, what is in it.
        const FILES: &[(&str, &str, &str)] = &[$(($name, $kind, include_str!(concat!("assets/", $name)))),*];
    };
}

files! {
    HTML "index.html",
    CSS "base.css",
    CSS "parts.css",
    SVG "icon.svg",
    JS "app.js",
    JS "api.js",
    JS "dom.js",
    JS "live.js",
    JS "format.js",
    JS "charts.js",
    JS "parts.js",
    JS "keys.js",
    JS "replay.js",
    JS "screen-overview.js",
    JS "screen-failed.js",
    JS "screen-events.js",
    JS "screen-event.js",
    JS "screen-call.js",
    JS "screen-endpoints.js",
    JS "screen-replays.js",
    JS "screen-sources.js",
    JS "screen-audit.js",
}

type Answering<B> = Pin<Box<dyn Future<Output = Result<Response<B>, Infallible>> + Send>>;

/// The dashboard, and `api` behind it for everything that is not of it.
#[must_use]
pub fn before<S, I, B>(
    api: S,
) -> impl Service<Request<I>, Response = Response<B>, Error = Infallible, Future = Answering<B>> + Clone + Send
where
    S: Service<Request<I>, Response = Response<B>, Error = Infallible, Future: Send + 'static> + Clone + Send + 'static,
    B: From<&'static str> + Body + Send + 'static,
    I: Body + Send + 'static,
{
    service_fn(move |request: Request<I>| -> Answering<B> {
        match answer(request.method(), request.uri().path(), request.headers()) {
            Some(response) => Box::pin(std::future::ready(Ok(response.map(B::from)))),
            None => Box::pin(api.call(request)),
        }
    })
}

/// What is answered to a request for something of the dashboard.
fn answer(method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<&'static str>> {
    let name = match path {
        "/" => "index.html",
        "/dashboard" | "/dashboard/" => return Some(moved()),
        _ => path.strip_prefix(FOLDER)?,
    };
    let file = FILES.iter().find(|(other, ..)| *other == name);
    let is_look = [Method::GET, Method::HEAD].contains(method);
    let mut response = match file {
        None => said(StatusCode::NOT_FOUND, "there is no such file\n"),
        Some(_) if !is_look => {
            let mut response = said(StatusCode::METHOD_NOT_ALLOWED, "this path answers to GET\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        Some((_, kind, text)) => shown(kind, text, headers),
    };
    guard(response.headers_mut());
    Some(response)
}

fn shown(kind: &'static str, text: &'static str, headers: &HeaderMap) -> Response<&'static str> {
    let tag = tag(text);
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|tags| tags.split(',')).any(|known| known.trim().trim_start_matches("W/") == tag);
    let mut response = Response::new(if is_known { "" } else { text });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let own = response.headers_mut();
    own.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // To be asked for every time, and answered in a line if it is the same.
    own.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        own.insert(ETAG, tag);
    }
    response
}

/// A few microseconds for the largest file, and nobody asks often.
fn tag(text: &str) -> String {
    let digest = Sha256::digest(text);
    format!("\"{}\"", hex(digest.first_chunk::<12>().map_or(&[], |digits| digits.as_slice())))
}

fn said(status: StatusCode, text: &'static str) -> Response<&'static str> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn moved() -> Response<&'static str> {
    let mut response = said(StatusCode::PERMANENT_REDIRECT, "");
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    guard(response.headers_mut());
    response
}

fn guard(headers: &mut HeaderMap) {
    let permissions = HeaderName::from_static("permissions-policy");
    let opener = HeaderName::from_static("cross-origin-opener-policy");
    let resource = HeaderName::from_static("cross-origin-resource-policy");
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (permissions, PERMISSIONS),
        (opener, "same-origin"),
        (resource, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Option<Response<&'static str>> {
        answer(&Method::GET, path, &HeaderMap::new())
    }

    #[test]
    fn files_are_shown_and_nothing_else_is() {
        let page = get("/").unwrap();
        assert_eq!(page.headers()["content-security-policy"], POLICY);
        for header in ["x-content-type-options", "referrer-policy", "etag", "cache-control", "x-frame-options"] {
            assert!(page.headers().contains_key(header), "{header}");
        }
        for (name, kind, text) in FILES {
            let file = get(&format!("{FOLDER}{name}")).unwrap();
            assert_eq!(
                (file.status(), &file.headers()["content-type"]),
                (StatusCode::OK, &HeaderValue::from_static(kind))
            );
            assert_eq!(file.body(), text);
        }
        assert_eq!(get("/dashboard/../gateway.toml").unwrap().status(), StatusCode::NOT_FOUND);
        assert_eq!(get("/dashboard/").unwrap().headers()["location"], "/");
        assert_eq!(answer(&Method::POST, "/", &HeaderMap::new()).unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
        for beside in ["/api/v1/events", "/livez", "/metrics", "/index.html", "//", "/dashboards"] {
            assert!(get(beside).is_none(), "{beside}");
        }
    }

    #[test]
    fn a_file_that_is_known_is_not_sent_again() {
        let tag = get("/dashboard/app.js").unwrap().headers()["etag"].clone();
        let ask = |tags: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(tags).unwrap());
            answer(&Method::GET, "/dashboard/app.js", &headers).unwrap()
        };
        let tag = tag.to_str().unwrap();
        for known in [tag.to_owned(), format!("\"x\", W/{tag}")] {
            let same = ask(&known);
            assert_eq!((same.status(), *same.body()), (StatusCode::NOT_MODIFIED, ""));
            assert!(same.headers().contains_key("content-security-policy"));
        }
        assert_eq!(ask("\"x\"").status(), StatusCode::OK);
    }

    /// What is shown is hostile: it goes into the page as text, never as markup, and the page has no code of its own.
    #[test]
    fn nothing_is_made_of_markup_and_nothing_runs_inline() {
        for (name, kind, text) in FILES {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
                assert!(!text.contains(word), "{name} has {word}");
            }
            if *kind == HTML {
                for word in ["style=", "<style", " on", "javascript:"] {
                    assert!(!text.contains(word), "{name} has {word}");
                }
                assert!(
                    text.matches("<script").count()
                        == text.matches("<script src=").count() + text.matches("<script type=\"module\" src=").count()
                );
            }
            let elsewhere = ["http://", "https://", "url(//", "@import"].map(|word| text.contains(word));
            assert!([JS, SVG].contains(kind) || elsewhere == [false; 4], "{name} loads something from elsewhere");
        }
    }
}
