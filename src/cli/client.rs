//! The way to a running gateway: its admin API and, for `send`, its ingest listener.
//!
//! Where it is and which token it wants come from the command line, the environment, or else from the same
//! gateway.toml that `serve` reads, so that on the gateway's own machine nothing need be said. The token
//! is sent, never printed. Redirects and proxies are not followed: they would carry the token elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use reqwest::{RequestBuilder, Response, Url};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::exit::Failure;
use super::output::Output;
use super::reach::{Asked, Whence};
use super::stream::Stream;
use crate::admin::auth::{self, Token};
use crate::admin::wire;
use crate::config::{Config, ConfigErrors, Local};
use crate::egress;
use crate::ingest::NOTHING_HERE;

/// Who answers.
const ADMIN_API: &str = "the gateway's admin API";
/// The environment variable that says where the admin API is.
const ADMIN_VARIABLE: &str = "BACKSTOP_ADMIN";
/// The environment variable that holds the admin token.
const TOKEN_VARIABLE: &str = "BACKSTOP_TOKEN";
/// What the options that name a gateway stand under in help.
const WHICH: &str = "Which gateway";
/// Longest time for a connection to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for an answer; an audit of a long history takes its time.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Longest page that the API gives.
const PAGE_MAX: usize = 1000;

/// Which gateway is meant, and how its answers are printed.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Remote {
    #[command(flatten)]
    pub(crate) gateway: Gateway,
    /// How the result is printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

/// Which gateway is meant.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Gateway {
    /// The admin API's base URL [default: admin.listen of the config]
    #[arg(long, env = "BACKSTOP_ADMIN", value_name = "URL", help_heading = WHICH)]
    pub(crate) admin: Option<String>,
    /// The file with the admin token; the variable BACKSTOP_TOKEN goes before it [default: that of the config]
    #[arg(long, value_name = "PATH", help_heading = WHICH)]
    pub(crate) token_file: Option<PathBuf>,
    /// The certificate authority of an https admin API, in PEM form, besides those of this machine [default: the
    /// certificate of admin.tls, where the config says where the admin API is]
    #[arg(long, env = "BACKSTOP_CA", value_name = "PATH", help_heading = WHICH)]
    pub(crate) ca: Option<PathBuf>,
}

/// The admin API of one gateway.
#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Token,
    asked: Asked,
    token_whence: Whence,
}

/// Why there is no answer to work with.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// It may be another time.
    Now(Failure),
    /// It is refused.
    Refused(Failure),
}

impl From<Unanswered> for Failure {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Now(failure) | Unanswered::Refused(failure) => failure,
        }
    }
}

impl Gateway {
    /// Whether there is something to find it by; the config at `path` is not looked into.
    fn is_named(&self, path: &Path) -> Result<(), Failure> {
        let has_token =
            self.token_file.is_some() || std::env::var_os(TOKEN_VARIABLE).is_some_and(|text| !text.is_empty());
        let lacking = match &self.admin {
            _ if path.exists() => return Ok(()),
            Some(_) if has_token => return Ok(()),
            Some(_) => "or give the admin token with BACKSTOP_TOKEN or --token-file",
            None if has_token => "or the gateway with --admin",
            None => "or the gateway with --admin, and its token with BACKSTOP_TOKEN or --token-file",
        };
        Err(Failure::usage(format!("{}: there is no such file; name one with --config, {lacking}", path.display())))
    }
}

impl Client {
    /// As [`Client::of`], for a verb that prints answers.
    pub(crate) fn new(remote: &Remote, config: &Path) -> Result<Self, Failure> {
        Self::of(&remote.gateway, config)
    }

    /// The gateway that `remote` names, or else that of the config at `path`, which is read only if needed.
    pub(crate) fn of(remote: &Gateway, path: &Path) -> Result<Self, Failure> {
        remote.is_named(path)?;
        let from_environment = std::env::var(TOKEN_VARIABLE).ok().filter(|text| !text.is_empty());
        let knows_token = from_environment.is_some() || remote.token_file.is_some();
        let config = if remote.admin.is_some() && knows_token { None } else { Some(local(path)?) };
        let (base, whence, ca) = place(remote, config.as_ref(), path)?;
        let token_file = remote.token_file.as_deref().or(config.as_ref().map(|config| &*config.admin.token_file));
        let (token, token_whence) = match (from_environment, token_file) {
            (Some(text), _) => {
                let token = Token::new(&text).ok_or_else(|| Failure::usage(format!("{TOKEN_VARIABLE} is no token")));
                (token?, Whence::Variable(TOKEN_VARIABLE))
            }
            (None, Some(file)) => {
                let unread = |error| Failure::failed(format!("{error}; `backstop serve` makes it on its first start"));
                let token = auth::load(file).map_err(unread)?;
                let is_given = remote.token_file.is_some();
                let setting = || Whence::setting("admin.token_file", path);
                (token, if is_given { Whence::Option("--token-file") } else { setting() })
            }
            (None, None) => return Err(Failure::usage("give the admin token with --token-file or BACKSTOP_TOKEN")),
        };
        let asked = Asked { what: ADMIN_API, base: base.to_string(), whence };
        Ok(Self { http: http(ca.as_deref())?, base, token, asked, token_whence })
    }

    /// The gateway at this base URL, by this token.
    pub(crate) fn at(base: &str, token: &Token) -> Result<Self, Failure> {
        let base = base_url("the admin API's address", base)?;
        let asked = Asked { what: ADMIN_API, base: base.to_string(), whence: Whence::Own };
        Ok(Self { http: http(None)?, base, token: token.clone(), asked, token_whence: Whence::Own })
    }

    /// `GET path` with these query parameters.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        parameters: &[(&'static str, String)],
    ) -> Result<T, Failure> {
        let mut url = self.url(path)?;
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        self.read_json(&self.send(self.http.get(url)).await?)
    }

    /// `GET path`, as bytes.
    pub(crate) async fn get_raw(&self, path: &[&str]) -> Result<Vec<u8>, Failure> {
        self.send(self.http.get(self.url(path)?)).await
    }

    /// `GET path` with these query parameters, as bytes.
    pub(crate) async fn get_part(
        &self,
        path: &[&str],
        parameters: &[(&'static str, String)],
    ) -> Result<Vec<u8>, Failure> {
        Ok(self.get_part_now(path, parameters).await?)
    }

    /// The same, with whether it may be another time.
    pub(crate) async fn get_part_now(
        &self,
        path: &[&str],
        parameters: &[(&'static str, String)],
    ) -> Result<Vec<u8>, Unanswered> {
        let mut url = self.url(path).map_err(Unanswered::Refused)?;
        url.query_pairs_mut().extend_pairs(parameters);
        self.send_now(self.http.get(url)).await
    }

    /// `POST path` with these query parameters and lines of JSON.
    pub(crate) async fn post_lines<T: DeserializeOwned>(
        &self,
        path: &[&str],
        parameters: &[(&'static str, String)],
        lines: Vec<u8>,
    ) -> Result<T, Failure> {
        let mut url = self.url(path)?;
        url.query_pairs_mut().extend_pairs(parameters);
        self.read_json(
            &self.send(self.http.post(url).header("content-type", "application/x-ndjson").body(lines)).await?,
        )
    }

    /// `DELETE path`.
    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        self.read_json(&self.send(self.http.delete(self.url(path)?)).await?)
    }

    /// `POST path` with a JSON body.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &[&str], body: &impl Serialize) -> Result<T, Failure> {
        self.post_keyed(path, None, body).await
    }

    /// The same, under an idempotency key: sent again, it is done once.
    pub(crate) async fn post_keyed<T: DeserializeOwned>(
        &self,
        path: &[&str],
        key: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| Failure::failed(error.to_string()))?;
        let mut request = self.http.request(Method::POST, self.url(path)?);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        self.read_json(&self.send(request.header("content-type", "application/json").body(body)).await?)
    }

    /// A page of a list, of at most `limit` items, behind `cursor`.
    pub(crate) async fn page<T: DeserializeOwned>(
        &self,
        path: &[&str],
        parameters: &[(&'static str, String)],
        limit: usize,
        cursor: Option<String>,
    ) -> Result<wire::Page<T>, Failure> {
        let mut asked = parameters.to_vec();
        asked.push(("limit", limit.clamp(1, PAGE_MAX).to_string()));
        asked.extend(cursor.map(|cursor| ("cursor", cursor)));
        self.get(path, &asked).await
    }

    /// `GET path` with these query parameters, as a stream of what happens.
    pub(crate) async fn follow(
        &self,
        path: &[&str],
        parameters: &[(&'static str, String)],
    ) -> Result<Stream, Unanswered> {
        let mut url = self.url(path).map_err(Unanswered::Refused)?;
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        // It has no end that could be waited for; that it is silent for too long is the stream's to notice.
        let request = self.http.get(url).timeout(Duration::from_secs(u64::from(u32::MAX)));
        let asking = request.bearer_auth(self.token.secret()).send();
        let asking = tokio::time::timeout(CONNECT_TIMEOUT * 2, asking).await;
        let answer = asking.map_err(|_| Unanswered::Now(self.asked.late()))?;
        let response = answer.map_err(|error| Unanswered::Now(self.asked.silent(&error)))?;
        self.success(response).await.map(Stream::new)
    }

    /// The URL of a path under the API; every part is escaped.
    fn url(&self, path: &[&str]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        let mut parts = url.path_segments_mut().map_err(|()| Failure::usage("the admin URL cannot have a path"))?;
        parts.pop_if_empty().extend(["api", "v1"]).extend(path);
        drop(parts);
        Ok(url)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>, Failure> {
        Ok(self.send_now(request).await?)
    }

    /// The same, with whether it may be another time.
    async fn send_now(&self, request: RequestBuilder) -> Result<Vec<u8>, Unanswered> {
        let silent = |error: reqwest::Error| Unanswered::Now(self.asked.silent(&error));
        let answer = request.bearer_auth(self.token.secret()).send().await.map_err(silent)?;
        let body = self.success(answer).await?.bytes().await;
        body.map(|body| body.to_vec()).map_err(silent)
    }

    /// The same answer, if it is one of success.
    async fn success(&self, response: Response) -> Result<Response, Unanswered> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|error| Unanswered::Now(self.asked.silent(&error)))?;
        let failure = self.refused(status, &body);
        let is_busy = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        Err(if is_busy { Unanswered::Now(failure) } else { Unanswered::Refused(failure) })
    }

    /// The gateway's refusal, and what it has to do with how it was asked.
    fn refused(&self, status: StatusCode, body: &[u8]) -> Failure {
        let problem: Option<wire::Problem> = serde_json::from_slice(body).ok();
        if problem.is_some_and(|problem| problem.detail == NOTHING_HERE) {
            return self.asked.stranger("the ingest listener answers");
        }
        let mut failure = self.asked.refused(status.as_u16(), body);
        if status == StatusCode::UNAUTHORIZED {
            failure.message.push_str(&format!(" (the token sent is that of {})", self.token_whence));
        }
        failure
    }

    fn read_json<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Failure> {
        let wrong = |error| self.asked.stranger(&format!("what answers is not what the admin API says ({error})"));
        serde_json::from_slice(body).map_err(wrong)
    }
}

/// The same gateway for someone without a token: its base URL, whose it is, and a client to ask it with.
pub(crate) fn anonymous(remote: &Gateway, path: &Path) -> Result<(Url, Asked, reqwest::Client), Failure> {
    let config = if remote.admin.is_some() { None } else { Some(local(path)?) };
    let (base, whence, ca) = place(remote, config.as_ref(), path)?;
    let asked = Asked { what: ADMIN_API, base: base.to_string(), whence };
    Ok((base, asked, http(ca.as_deref())?))
}

/// Where the gateway is that `remote` names, or else that of the config at `path`; how that is known; whom to trust.
fn place(remote: &Gateway, config: Option<&Local>, path: &Path) -> Result<(Url, Whence, Option<PathBuf>), Failure> {
    let ca = remote.ca.clone();
    match (&remote.admin, config) {
        (Some(url), _) => Ok((base_url("--admin", url)?, Whence::given("--admin", ADMIN_VARIABLE, url), ca)),
        (None, Some(Local { admin, .. })) => {
            // A certificate that signs itself is known where it is read from.
            let ca = ca.or(admin.tls.as_ref().map(|tls| tls.certificates.clone()));
            let url = base_url("admin.listen", &url_of(admin.listen, admin.tls.is_some()))?;
            Ok((url, Whence::setting("admin.listen", path), ca))
        }
        (None, None) => Err(Failure::usage("name the gateway with --admin or --config")),
    }
}

/// An HTTP client that goes where it is told and nowhere else, and trusts what this machine trusts and `ca`.
pub(crate) fn http(ca: Option<&Path>) -> Result<reqwest::Client, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::failed(format!("the HTTP client cannot be made: {error}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| broken(&error))?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TIMEOUT)
        .build()
        .map_err(|error| broken(&error))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = egress::native_roots();
    let Some(path) = ca else { return Ok(roots) };
    let unusable = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("the certificate authority in {} cannot be used: {why}", path.display()))
    };
    let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = read.map_err(|_| unusable(&"it is not PEM"))?;
    if certificates.is_empty() {
        return Err(unusable(&"it holds no certificate in PEM form"));
    }
    for certificate in certificates {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    Ok(roots)
}

/// The config at `path`, which must be right.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|errors| refused(&errors))
}

/// What the config at `path` says of where the gateway is.
pub(crate) fn local(path: &Path) -> Result<Local, Failure> {
    Local::load(path).map_err(|errors| refused(&errors))
}

pub(crate) fn refused(errors: &ConfigErrors) -> Failure {
    match errors.problems.as_slice() {
        [problem] => Failure::usage(problem.to_string()),
        // Each on a line that begins with its place, for editors to jump there.
        _ => Failure::usage(format!("the config is refused\n{errors}")),
    }
}

/// The base URL of a listener, for someone on the same machine.
pub(crate) fn url_of(listen: SocketAddr, tls: bool) -> String {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if tls { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, listen.port()))
}

/// The absolute URL in `text`, which `what` gave.
pub(crate) fn base_url(what: &str, text: &str) -> Result<Url, Failure> {
    egress::target(text)
        .map_err(|_| Failure::usage(format!("{what} is not an absolute http or https URL, like http://127.0.0.1:8081")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn client(base: &str) -> Client {
        Client::at(base, &Token::new("0123456789abcdef").unwrap()).unwrap()
    }

    #[test]
    fn paths_are_put_under_the_base_and_escaped() {
        let url = |base: &str, path: &[&str]| client(base).url(path).unwrap().to_string();
        assert_eq!(url("http://h:1", &["events"]), "http://h:1/api/v1/events");
        assert_eq!(url("http://h:1/ops/", &["events", "a/../b?c"]), "http://h:1/ops/api/v1/events/a%2F..%2Fb%3Fc");
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        assert_eq!(url_of("0.0.0.0:8081".parse().unwrap(), false), "http://127.0.0.1:8081");
        assert_eq!(url_of("[::]:8081".parse().unwrap(), false), "http://[::1]:8081");
        assert_eq!(url_of("10.0.0.1:8081".parse().unwrap(), false), "http://10.0.0.1:8081");
        assert_eq!(url_of("[::]:8081".parse().unwrap(), true), "https://[::1]:8081");
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_named() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = client(&url_of(free, false)).get_raw(&["counters"]).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains(&free.to_string()), "{failure}");
        assert!(failure.message.contains("is `backstop serve` running"), "{failure}");
        assert!(!failure.message.contains("0123456789abcdef"));
    }
}
