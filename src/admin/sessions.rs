//! Sessions: a browser shows a token once, and from then on a cookie that no script can read.
//!
//! Promises: a session is worth what its token is worth at that moment, so a token that is revoked or expires ends
//! its sessions; the cookie is HttpOnly, of this site only, and `Secure` under TLS; what changes something is taken from
//! the gateway's own pages only, which say so in ways that no other page can make a browser say; there are at most
//! [`SESSIONS_MAX`], each for at most [`LIFETIME`], kept as hashes and in memory only. Absent: tokens, which need none of
//! this, for no browser sends them by itself.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::header::{COOKIE, HOST, ORIGIN, SET_COOKIE};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};
use warp::Filter as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;

use super::auth::{Token, TokenError, TokenHash};
use super::gate::{Caller, caller};
use super::problem::{Answer, Problem, json};
use super::{AdminState, respond, wire, with};
use crate::core::timestamp::Timestamp;

/// Most sessions at a time; of more, the one that began first ends.
pub const SESSIONS_MAX: usize = 256;
/// A session ends after so long, whatever is done in it.
pub const LIFETIME: Duration = Duration::from_hours(12);
/// What a page's script sends along with every change. That alone keeps other pages out: a browser asks first, and is told no.
const OWN_PAGE: &str = "x-backstop";
/// What the browser says of who had it send the request.
const FETCH_SITE: &str = "sec-fetch-site";

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    /// By port, or two gateways on one machine would take each other's: cookies are of a host.
    cookie: String,
    secure: bool,
    /// In order of their beginning.
    open: Mutex<Vec<Session>>,
}

#[derive(Debug)]
struct Session {
    id: TokenHash,
    token: TokenHash,
    ends_at: Timestamp,
}

impl Sessions {
    /// None yet, of a listener on this port; `secure` if it speaks TLS only.
    #[must_use]
    pub fn new(port: u16, secure: bool) -> Self {
        Self { cookie: format!("backstop_{port}"), secure, open: Mutex::default() }
    }

    /// What the cookie is called.
    pub(super) fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Begins one; the cookie that says so.
    fn begin(&self, token: TokenHash, now: Timestamp) -> Result<String, TokenError> {
        let id = Token::generate()?;
        // Not to be taken for a token, by whom it is leaked to.
        let id = id.secret().trim_start_matches("bst_");
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|session| session.ends_at > now);
        if open.len() >= SESSIONS_MAX {
            open.remove(0);
        }
        open.push(Session { id: TokenHash::of(id), token, ends_at: now.after(LIFETIME) });
        Ok(self.header(id, LIFETIME))
    }

    /// The token of the session that a request shows, if it shows one that is open.
    pub(super) fn token(&self, parts: &Parts, now: Timestamp) -> Option<TokenHash> {
        let shown = TokenHash::of(self.shown(parts)?);
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open.iter().rfind(|session| session.id.matches(&shown));
        found.filter(|session| session.ends_at > now).map(|session| session.token)
    }

    /// Ends the session that a request shows; the cookie that says so.
    fn end(&self, shown: Option<&str>) -> String {
        if let Some(id) = shown.and_then(|cookies| self.find(cookies)).map(TokenHash::of) {
            self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|session| !session.id.matches(&id));
        }
        self.header("", Duration::ZERO)
    }

    fn shown<'a>(&self, parts: &'a Parts) -> Option<&'a str> {
        let cookies = parts.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        cookies.filter_map(|cookies| self.find(cookies)).next()
    }

    fn find<'a>(&self, cookies: &'a str) -> Option<&'a str> {
        let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(name, _)| *name == self.cookie).map(|(_, value)| value)
    }

    fn header(&self, value: &str, lifetime: Duration) -> String {
        let (cookie, seconds) = (&self.cookie, lifetime.as_secs());
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{cookie}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
    }
}

/// Refuses what a session is shown for but another page than the gateway's own has sent.
pub(super) fn sent_by_own_page(parts: &Parts) -> Result<(), Problem> {
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let is_look = parts.method == Method::GET;
    let is_own = match (text(FETCH_SITE), text(ORIGIN.as_str())) {
        // What is typed into the address bar, too.
        (Some("none"), _) => is_look,
        (Some(site), _) => site == "same-origin",
        // A browser says that much only where it trusts the way here.
        (None, Some(origin)) => {
            let host = text(HOST.as_str()).or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
            host.is_some() && origin.split_once("://").map(|(_, origin)| origin) == host
        }
        (None, None) => is_look,
    };
    let says_so = is_look || parts.headers.contains_key(OWN_PAGE);
    if is_own && says_so {
        return Ok(());
    }
    let detail = "another page than the gateway's own has had this sent; nothing was done. Scripts show a token";
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

pub(super) fn routes(state: &AdminState) -> BoxedFilter<(Response,)> {
    let begun = warp::path!("session").and(warp::post()).and(caller()).and(with(state)).map(begin);
    let cookies = warp::header::optional::<String>(COOKIE.as_str());
    let ended = warp::path!("session").and(warp::delete()).and(cookies).and(with(state)).map(end);
    begun.or(ended).unify().map(respond).boxed()
}

fn begin(caller: Caller, state: AdminState) -> Answer {
    let cookie = state.sessions.begin(caller.held.hash(), state.engine.now());
    let cookie = cookie.map_err(|error| Problem::unavailable(error.to_string()))?;
    let Caller { held, peer } = caller;
    let who = wire::WhoAmI { token: wire::Token::of(&held), peer: peer.map(|peer| peer.to_string()) };
    Ok(with_cookie(json(StatusCode::CREATED, &who), &cookie))
}

fn end(cookies: Option<String>, state: AdminState) -> Answer {
    let cookie = state.sessions.end(cookies.as_deref());
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(with_cookie(response, &cookie))
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/api/v1/replays");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_session_is_known_by_its_cookie_until_it_ends() {
        let (sessions, now) = (Sessions::new(8081, true), Timestamp::from_millis(1));
        let token = TokenHash::of("a token");
        let header = sessions.begin(token, now).unwrap();
        assert!(header.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict; Secure"), "{header}");
        let cookie = header.split(';').next().unwrap();
        let shown = parts("GET", &[("cookie", &format!("a=b; {cookie}; c=d"))]);
        assert!(sessions.token(&shown, now).is_some_and(|found| found.matches(&token)));
        assert!(sessions.token(&parts("GET", &[("cookie", "backstop_8081=x")]), now).is_none());
        assert!(Sessions::new(8082, true).token(&shown, now).is_none());
        assert!(sessions.token(&shown, now.after(LIFETIME)).is_none());
        assert!(sessions.end(Some(cookie)).starts_with("backstop_8081=; Path=/; Max-Age=0;"));
        assert!(sessions.token(&shown, now).is_none());
        assert!(!format!("{sessions:?}").contains(cookie));
    }

    #[test]
    fn there_are_so_many_and_the_first_ends() {
        let (sessions, now) = (Sessions::new(1, false), Timestamp::from_millis(1));
        let begin = || sessions.begin(TokenHash::of("t"), now).unwrap().split(';').next().unwrap().to_owned();
        let first = begin();
        let others: Vec<String> = (0..SESSIONS_MAX).map(|_| begin()).collect();
        let is_open = |cookie: &str| sessions.token(&parts("GET", &[("cookie", cookie)]), now).is_some();
        assert!(!is_open(&first) && others.iter().all(|cookie| is_open(cookie)));
    }

    #[test]
    fn what_another_page_has_sent_is_refused() {
        let own = (OWN_PAGE, "1");
        let host = ("host", "localhost:8081");
        let good: &[(&str, &[(&str, &str)])] = &[
            ("GET", &[]),
            ("GET", &[("sec-fetch-site", "none")]),
            ("GET", &[("sec-fetch-site", "same-origin")]),
            ("POST", &[("sec-fetch-site", "same-origin"), own]),
            ("DELETE", &[("origin", "http://localhost:8081"), host, own]),
        ];
        for (method, headers) in good {
            assert!(sent_by_own_page(&parts(method, headers)).is_ok(), "{method} {headers:?}");
        }
        let bad: &[(&str, &[(&str, &str)])] = &[
            ("GET", &[("sec-fetch-site", "cross-site")]),
            ("GET", &[("sec-fetch-site", "same-site")]),
            ("POST", &[own]),
            ("POST", &[("sec-fetch-site", "same-origin")]),
            ("POST", &[("sec-fetch-site", "none"), own]),
            ("POST", &[("sec-fetch-site", "same-site"), ("origin", "http://localhost:8081"), host, own]),
            ("POST", &[("origin", "http://localhost:9999"), host, own]),
            ("POST", &[("origin", "null"), host, own]),
            ("POST", &[("origin", "http://localhost:8081"), own]),
            ("POST", &[("origin", "http://localhost:8081"), host]),
        ];
        for (method, headers) in bad {
            assert!(sent_by_own_page(&parts(method, headers)).is_err(), "{method} {headers:?}");
        }
    }
}
