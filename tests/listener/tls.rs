//! TLS: what is spoken, what is refused, and certificates that change.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backstop::config::TlsFiles;
use backstop::listener::{Limits, Tls};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;

use crate::{GET, LONG, Served, end, limits, serve_with};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A certificate that signs itself, in files that can be replaced.
struct Identity {
    folder: TempDir,
}

impl Identity {
    fn new(name: &str) -> Self {
        let identity = Self { folder: tempfile::tempdir().unwrap() };
        identity.replace(name);
        identity
    }

    fn files(&self) -> TlsFiles {
        TlsFiles { certificates: self.path("cert.pem"), key: self.path("key.pem") }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Another certificate for `name`, with another key.
    fn replace(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }
}

async fn serve(limits: Limits, identity: &Identity) -> (Served, Arc<Tls>) {
    let tls = Arc::new(Tls::load(identity.files()).unwrap());
    let with = Arc::clone(&tls);
    (serve_with(limits, LONG, |listener| listener.with_tls(with)).await, tls)
}

fn shake(
    server: &Served,
    name: &str,
    ca: &Path,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> Result<Stream, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| error.to_string())?;
    }
    Ok(StreamOwned::new(connection, stream))
}

fn get(stream: &mut Stream) -> String {
    stream.write_all(GET.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_served_by_tls_1_2_and_1_3_as_http_1_1() {
    let identity = Identity::new("gateway.example");
    let (server, _) = serve(limits(8, LONG), &identity).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut stream =
            shake(&server, "gateway.example", &identity.path("cert.pem"), &[version], &["h2", "http/1.1"]).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let answer = get(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("127.0.0.1:"), "{answer}");
    }
    let only_h2 = shake(&server, "gateway.example", &identity.path("cert.pem"), rustls::ALL_VERSIONS, &["h2"]);
    assert!(only_h2.unwrap_err().contains("ApplicationProtocol"));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_not_answered_and_the_listener_goes_on() {
    let identity = Identity::new("gateway.example");
    let (server, _) = serve(limits(2, LONG), &identity).await;
    for _ in 0..8 {
        let mut stream = server.connect();
        stream.get_mut().write_all(GET.as_bytes()).unwrap();
        let told = end(&mut stream);
        assert!(!told.starts_with(b"HTTP"), "{told:?}");
    }
    let mut stream = shake(&server, "gateway.example", &identity.path("cert.pem"), rustls::ALL_VERSIONS, &[]).unwrap();
    assert!(get(&mut stream).starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_has_its_time_and_takes_a_place() {
    let identity = Identity::new("gateway.example");
    let quick = Limits { header_timeout: Duration::from_millis(200), ..limits(1, LONG) };
    let (server, _) = serve(quick, &identity).await;
    // A silent one, then the beginning of a handshake: each takes the one place, and loses it.
    let mut silent = server.connect();
    let mut begins = server.connect();
    begins.get_mut().write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    end(&mut silent);
    end(&mut begins);
    let mut stream = shake(&server, "gateway.example", &identity.path("cert.pem"), rustls::ALL_VERSIONS, &[]).unwrap();
    assert!(get(&mut stream).starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_in_and_a_bad_one_is_not() {
    let identity = Identity::new("old.example");
    let old = identity.path("old.pem");
    std::fs::copy(identity.path("cert.pem"), &old).unwrap();
    let (server, tls) = serve(limits(8, LONG), &identity).await;
    let mut kept = shake(&server, "old.example", &old, rustls::ALL_VERSIONS, &[]).unwrap();
    let key = std::fs::read(identity.path("key.pem")).unwrap();
    identity.replace("new.example");
    let new_key = std::fs::read(identity.path("key.pem")).unwrap();
    for (bad, why) in [(key, "is not that of the certificate"), (b"nothing".to_vec(), "no private key")] {
        std::fs::write(identity.path("key.pem"), bad).unwrap();
        let error = tls.look().err().unwrap().to_string();
        assert!(error.contains(why) && error.contains("key.pem"), "{error}");
        assert!(shake(&server, "old.example", &old, rustls::ALL_VERSIONS, &[]).is_ok(), "the old one stays");
    }
    std::fs::remove_file(identity.path("key.pem")).unwrap();
    assert!(tls.look().err().unwrap().to_string().contains("cannot be read"));
    std::fs::write(identity.path("key.pem"), new_key).unwrap();
    tls.take_in(tls.look().unwrap());
    assert!(shake(&server, "old.example", &old, rustls::ALL_VERSIONS, &[]).is_err());
    let new = shake(&server, "new.example", &identity.path("cert.pem"), rustls::ALL_VERSIONS, &[]);
    assert!(get(&mut new.unwrap()).starts_with("HTTP/1.1 200 "));
    assert!(get(&mut kept).starts_with("HTTP/1.1 200 "), "a connection that stood goes on");
}

#[test]
fn what_is_no_certificate_is_told_by_its_file() {
    let identity = Identity::new("x.example");
    std::fs::write(identity.path("cert.pem"), "planted").unwrap();
    let error = Tls::load(identity.files()).unwrap_err().to_string();
    assert!(error.contains("cert.pem") && error.contains("no certificate") && !error.contains("planted"), "{error}");
    let nothing = TlsFiles { certificates: "/no/such/file".into(), key: identity.path("key.pem") };
    assert!(Tls::load(nothing).unwrap_err().to_string().contains("/no/such/file cannot be read"));
}
