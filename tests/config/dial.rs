//! Who we are, whom we trust and through whom we go, as the config says it.

use std::io;
use std::sync::OnceLock;

use backstop::config::Config;
use backstop::core::dial::{Dial, Tls};
use backstop::core::endpoint::Endpoint;
use rcgen::{CertificateParams, KeyPair};

use crate::{SHIPPED, parse, problems};

/// The files of [`pem`]: a certificate, its key, the key of another, and a certificate with its key.
fn made() -> &'static [String; 4] {
    static MADE: OnceLock<[String; 4]> = OnceLock::new();
    MADE.get_or_init(|| {
        let key = || KeyPair::generate().unwrap_or_else(|error| panic!("{error}"));
        let (own, other) = (key(), key());
        let signed = CertificateParams::new(vec!["backstop".to_owned()]).and_then(|params| params.self_signed(&own));
        let certificate = signed.unwrap_or_else(|error| panic!("{error}")).pem();
        let both = format!("{certificate}{}", own.serialize_pem());
        [certificate, own.serialize_pem(), other.serialize_pem(), both]
    })
}

/// What is in a file for TLS.
pub(crate) fn pem(path: &str) -> io::Result<String> {
    let [certificate, key, other_key, both] = made();
    match path.rsplit('/').next() {
        Some("erp-ca.pem" | "backstop.pem") => Ok(certificate.clone()),
        Some("backstop.key") => Ok(key.clone()),
        Some("other.key") => Ok(other_key.clone()),
        Some("both.pem") => Ok(both.clone()),
        Some("noise.pem") => Ok("planted noise".to_owned()),
        Some("broken.pem") => Ok("-----BEGIN CERTIFICATE-----\n%planted\n-----END CERTIFICATE-----\n".to_owned()),
        Some("no-certificate.pem") => Ok("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// An endpoint over TLS with these settings.
fn text(settings: &str) -> String {
    format!("[endpoints.erp]\nurl = \"https://erp\"\n{settings}\n[[routes]]\nendpoints = [\"erp\"]\n")
}

fn only(config: &Config) -> &Endpoint {
    config.endpoints.last().unwrap_or_else(|| panic!("{config:?}"))
}

fn dial(settings: &str) -> Dial {
    let config = parse(&text(settings)).unwrap_or_else(|errors| panic!("{settings}\n{errors}"));
    (*only(&config).dial).clone()
}

/// The header that `auth` makes.
fn header(settings: &str) -> (String, String) {
    let config = parse(&text(settings)).unwrap_or_else(|errors| panic!("{settings}\n{errors}"));
    let [header] = only(&config).headers.as_slice() else { panic!("{settings}: {config:?}") };
    (header.name.clone(), String::from_utf8_lossy(&header.value).into_owned())
}

#[test]
fn the_example_of_the_shipped_file_is_right() {
    let example: String =
        SHIPPED.lines().filter_map(|line| line.strip_prefix("#   ")).map(|line| line.to_owned() + "\n").collect();
    let config = parse(&example).unwrap_or_else(|errors| panic!("{example}\n{errors}"));
    let erp = only(&config);
    assert_eq!((erp.name.as_str(), erp.url.as_str()), ("erp", "https://erp.example.com/hooks"));
    let Dial { proxy: Some(proxy), tls, .. } = &*erp.dial else { panic!("{erp:?}") };
    assert_eq!(proxy.url, "http://proxy:3128/");
    assert!(
        proxy
            .credentials
            .as_ref()
            .is_some_and(|known| known.user == "backstop" && known.password == "planted-password")
    );
    assert!(tls.ca.is_some() && !tls.machine_roots && tls.identity.is_some());
    let [auth] = erp.headers.as_slice() else { panic!("{erp:?}") };
    assert_eq!((auth.name.as_str(), &auth.value[..]), ("authorization", &b"Bearer planted-credential"[..]));
    for other in ["auth = { header = \"x-api-key\", value = \"${CRM_TOKEN}\" }", "proxy = \"http://proxy:3128\""] {
        assert!(parse(&text(other)).is_ok(), "{other}");
    }
}

#[test]
fn an_authority_stands_in_place_of_the_machines_unless_it_is_said_otherwise() {
    assert_eq!(dial(""), Dial::default());
    let of = |settings: &str| {
        let Tls { ca, machine_roots, .. } = dial(settings).tls;
        (ca.map(|ca| ca.file.display().to_string()), machine_roots)
    };
    let ca = || Some("/etc/b/erp-ca.pem".to_owned());
    assert_eq!(of("tls = { ca = \"erp-ca.pem\" }"), (ca(), false));
    assert_eq!(of("tls = { ca = \"/etc/b/erp-ca.pem\", machine_roots = true }"), (ca(), true));
    assert_eq!(of("tls = { identity = \"both.pem\" }"), (None, true));
}

#[test]
fn an_identity_has_its_key_in_the_same_file_or_in_another() {
    let one = dial("tls = { identity = \"both.pem\" }").tls.identity;
    assert!(one.is_some_and(|identity| identity.certificates == identity.key));
    let two = dial("tls = { identity = \"backstop.pem\", key = \"backstop.key\" }").tls.identity;
    assert!(two.is_some_and(|identity| identity.key.file.ends_with("backstop.key")));
}

#[test]
fn a_password_becomes_a_header() {
    let authorization = |value: &str| ("authorization".to_owned(), value.to_owned());
    assert_eq!(header("auth = { bearer = \"${CRM_TOKEN}\" }"), authorization("Bearer planted-token"));
    assert_eq!(header("auth = { bearer = \"credential:erp-token\" }"), authorization("Bearer planted-credential"));
    let basic = "auth = { basic = { user = \"Aladdin\", password = \"open sesame\" } }"; // RFC 7617's example
    assert_eq!(header(basic), authorization("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
    let other = "auth = { header = \"X-API-Key\", value = \"a b\" }";
    assert_eq!(header(other), ("x-api-key".to_owned(), "a b".to_owned()));
}

#[test]
fn each_mistake_is_named_with_its_key_and_no_value() {
    let cases = [
        ("tls = { identity = \"backstop.pem\" }", "tls.identity", "/etc/b/backstop.pem holds no private key"),
        ("tls = { identity = \"backstop.pem\", key = \"other.key\" }", "tls.key", "other.key is not that of the first"),
        ("tls = { identity = \"backstop.pem\", key = \"erp-ca.pem\" }", "tls.key", "erp-ca.pem holds no private key"),
        ("tls = { identity = \"gone.pem\" }", "tls.identity", "/etc/b/gone.pem cannot be read: entity not found"),
        ("tls = { identity = \"noise.pem\" }", "tls.identity", "noise.pem holds no certificate"),
        ("tls = { identity = \"broken.pem\" }", "tls.identity", "broken.pem holds no certificate"),
        ("tls = { key = \"backstop.key\" }", "tls.key", "a key without a certificate"),
        ("tls = { ca = \"noise.pem\" }", "tls.ca", "noise.pem holds no certificate"),
        (
            "tls = { ca = \"no-certificate.pem\" }",
            "tls.ca",
            "a certificate in /etc/b/no-certificate.pem cannot be used",
        ),
        ("tls = { ca = \"${PEM}\" }", "tls.ca", "must be the path of a file, not what is in it"),
        ("tls = { ca = \"\" }", "tls.ca", "must be the path of a file"),
        ("tls = { machine_roots = false }", "tls.machine_roots", "nobody would be trusted"),
        ("tls = { cert = \"a\" }", "tls.cert", "unknown key"),
        ("tls = \"off\"", "tls", "must be a table"),
        ("proxy = \"https://proxy\"", "proxy", "must be the URL of an HTTP proxy"),
        ("proxy = \"socks5://proxy:1080\"", "proxy", "must be the URL of an HTTP proxy"),
        ("proxy = \"proxy:3128\"", "proxy", "must be the URL of an HTTP proxy"),
        ("proxy = \"http://pro{xy}:3128\"", "proxy", "must be the URL of an HTTP proxy"),
        ("proxy = \"http://proxy/path\"", "proxy", "must be the URL of an HTTP proxy"),
        ("proxy = \"http://planted:planted@proxy\"", "proxy", "holds a user or password"),
        ("proxy = 3128", "proxy", "a text like \"http://proxy:3128\" or a table"),
        ("proxy = { user = \"a\", password = \"b\" }", "proxy.url", "is missing"),
        ("proxy = { url = \"http://p\", user = \"a\" }", "proxy.password", "is missing"),
        ("proxy = { url = \"http://p\", password = \"planted\" }", "proxy.user", "is missing"),
        ("proxy = { url = \"http://p\", user = \"a:b\", password = \"planted\" }", "proxy.user", "without colons"),
        ("proxy = { url = \"http://p\", user = \"a\", password = \"${NOISE}\" }", "proxy.password", "without control"),
        ("proxy = \"http://169.254.169.254\"", "proxy", "cannot be reached: its address is a cloud's metadata address"),
        ("proxy = \"http://127.0.0.1:8081\"", "proxy", "own admin listener"),
        ("auth = {}", "auth", "must be { bearer"),
        ("auth = \"planted\"", "auth", "must be a table"),
        ("auth = { bearer = \"a\", header = \"b\", value = \"c\" }", "auth", "must be { bearer"),
        ("auth = { header = \"x-key\" }", "auth", "must be { bearer"),
        ("auth = { bearer = \"planted token\" }", "auth.bearer", "without spaces"),
        ("auth = { bearer = \"\" }", "auth.bearer", "must be a token"),
        ("auth = { basic = { user = \"a\" } }", "auth.basic.password", "is missing"),
        ("auth = { basic = \"planted\" }", "auth.basic", "must be a table"),
        ("auth = { header = \"x-key\", value = \"${NOISE}\" }", "auth.value", "not a header value"),
        ("auth = { header = \"x key\", value = \"planted\" }", "auth.header", "not a header name"),
        ("auth = { header = \"host\", value = \"planted\" }", "auth", "set by the gateway itself"),
        ("auth = { header = \"webhook-id\", value = \"planted\" }", "auth", "set by the gateway itself"),
        (
            "headers = { X-Key = \"a\" }\nauth = { header = \"x-key\", value = \"b\" }",
            "auth",
            "stands in `headers` too",
        ),
        ("headers = { backstop-key = \"a\" }", "headers.backstop-key", "set by the gateway itself"),
        ("auth = { bearer = \"credential:gone\" }", "auth.bearer", "named after `credential:` cannot be read"),
        ("auth = { bearer = \"credential:../planted\" }", "auth.bearer", "names no credential"),
        ("auth = { bearer = \"credential:\" }", "auth.bearer", "names no credential"),
        ("auth = { bearer = \"file:planted\" }", "auth.bearer", "named after `file:` cannot be read"),
    ];
    for (settings, key, piece) in cases {
        let problems = problems(&text(settings));
        let [problem] = problems.as_slice() else { panic!("{settings}\n{problems:#?}") };
        assert_eq!(problem.key, format!("endpoints.erp.{key}"), "{settings}\n{problem}");
        assert!(problem.message.contains(piece), "{settings}\n{problem}\nlacks {piece:?}");
        assert!(!problem.to_string().contains("planted"), "{problem}");
    }
    let plain = "[endpoints.a]\nurl = \"http://a\"\ntls = { ca = \"erp-ca.pem\" }\n[[routes]]\nendpoints = [\"a\"]\n";
    crate::assert_problem(plain, 3, "endpoints.a.tls", "is of no use: url is http");
}

#[test]
fn a_credential_without_systemd_says_what_to_do() {
    let text = text("auth = { bearer = \"credential:erp-token\" }");
    let read = Config::parse(&text, std::path::Path::new("/etc/b/gateway.toml"), &|_| None, &|path| {
        pem(&path.display().to_string())
    });
    let errors =
        read.map(|config| panic!("{config:?}")).unwrap_or_else(|errors: backstop::config::ConfigErrors| errors);
    let said = errors.to_string();
    assert!(said.contains("CREDENTIALS_DIRECTORY is not set") && said.contains("LoadCredential="), "{said}");
}
