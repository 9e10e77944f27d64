//! TLS with authorities of one's own: who is trusted, who we are, and what an operator sees of what went wrong.

use std::sync::mpsc::Receiver;

use backstop::core::dial::{Dial, Identity, Pem, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::server::WebPkiClientVerifier;

use super::*;

/// An authority that signs what it is asked to.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    certificate: CertificateDer<'static>,
}

/// A certificate with its key.
pub(crate) struct Leaf {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn sign(&self, name: &str) -> Leaf {
        self.sign_until(name, 2100)
    }

    /// One that is good until the beginning of this year.
    fn sign_until(&self, name: &str, year: i32) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        Leaf { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }
}

fn pem(text: String) -> Pem {
    Pem { file: "test.pem".into(), text: text.into() }
}

impl Leaf {
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.der().clone()]
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    fn identity(&self) -> Option<Identity> {
        Some(Identity { certificates: pem(self.certificate.pem()), key: pem(self.key.serialize_pem()) })
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap()
}

/// An endpoint with this certificate; it tells which client certificate came with each request. `clients`: who may.
fn secure(leaf: &Leaf, clients: Option<&Authority>) -> (SocketAddr, Receiver<Option<CertificateDer<'static>>>) {
    let builder = match clients {
        Some(authority) => builder().with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider()).build().unwrap(),
        ),
        None => builder().with_no_client_auth(),
    };
    let config = Arc::new(builder.with_single_cert(leaf.chain(), leaf.private_key()).unwrap());
    let (told, certificates) = mpsc::channel();
    let address = endpoint(move |stream| {
        let (connection, told) = (ServerConnection::new(Arc::clone(&config)).unwrap(), told.clone());
        std::thread::spawn(move || {
            let mut reader = BufReader::new(StreamOwned::new(connection, stream));
            while read_request(&mut reader).is_some() {
                let stream = reader.get_mut();
                told.send(stream.conn.peer_certificates().map(|chain| chain[0].clone())).ok();
                stream.write_all(OK).unwrap();
            }
            // What it still has to say must not be lost in a reset, so the other side ends the connection.
            std::io::copy(&mut reader.into_inner().sock, &mut std::io::sink()).ok();
        });
    });
    (address, certificates)
}

/// An endpoint with this certificate that answers each request and reports it.
pub(crate) fn answering_over_tls(leaf: &Leaf) -> (SocketAddr, Receiver<Request>) {
    let config = Arc::new(builder().with_no_client_auth().with_single_cert(leaf.chain(), leaf.private_key()).unwrap());
    let (seen, requests) = mpsc::channel();
    let address = endpoint(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut reader = BufReader::new(StreamOwned::new(connection, stream));
        while let Some(request) = read_request(&mut reader) {
            seen.send(request).ok();
            reader.get_mut().write_all(OK).unwrap();
        }
    });
    (address, requests)
}

fn under(tls: Tls, url: String) -> Endpoint {
    Endpoint { dial: Arc::new(Dial { tls, ..Dial::default() }), ..target(url) }
}

fn trusting(ca: &Authority, identity: Option<Identity>) -> Tls {
    Tls { identity, ca: Some(pem(ca.pem.clone())), machine_roots: false }
}

/// A copy of a small event, sent by a gateway whose machine trusts `roots`.
async fn send(roots: RootCertStore, endpoint: Endpoint) -> Reply {
    HttpTransport::new(roots, Guard::default()).send(sending(endpoint, draft(vec![], "{}"))).await
}

/// Asserts that TLS failed, and that people are told this.
fn assert_tls(reply: Reply, pieces: &[&str]) {
    let Reply::Failure(failure) = &reply else { panic!("{pieces:?}: {reply:?}") };
    for piece in pieces {
        assert!(failure.detail.contains(piece), "{piece} in {failure:?}");
    }
    assert_eq!(class(reply), FailureClass::Tls);
}

#[tokio::test]
async fn the_right_identity_passes_and_no_other() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let server = ours.sign("localhost");
    let (address, certificates) = secure(&server, Some(&ours));
    let url = || format!("https://localhost:{}/?token=hunter2", address.port());
    let nobody = RootCertStore::empty;

    let client = ours.sign("backstop");
    let right = under(trusting(&ours, client.identity()), url());
    assert_eq!(answer(send(nobody(), right).await).body, "ok");
    assert_eq!(certificates.recv().unwrap(), Some(client.certificate.der().clone()));

    let missing = under(trusting(&ours, None), url());
    assert_tls(send(nobody(), missing).await, &["CertificateRequired", "wants a client certificate: tls.identity"]);
    let wrong = under(trusting(&ours, others.sign("backstop").identity()), url());
    assert_tls(send(nobody(), wrong).await, &["UnknownCA", "does not take our client certificate"]);
    let expired = under(trusting(&ours, ours.sign_until("backstop", 2020).identity()), url());
    assert_tls(send(nobody(), expired).await, &["CertificateExpired", "does not take our client certificate"]);
    assert!(certificates.try_recv().is_err(), "no other request has arrived");
}

#[tokio::test]
async fn the_right_server_is_trusted_and_no_other() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let trust = || trusting(&ours, None);
    let url = |address: SocketAddr| format!("https://localhost:{}/?token=hunter2", address.port());
    let at = |leaf: &Leaf| secure(leaf, None).0;
    assert_eq!(answer(send(RootCertStore::empty(), under(trust(), url(at(&ours.sign("localhost"))))).await).body, "ok");
    let cases: [(Leaf, &[&str]); 4] = [
        (others.sign("localhost"), &["UnknownIssuer", "tls.ca"]),
        (ours.sign_until("localhost", 2020), &["expired"]),
        (ours.sign("example.com"), &["not valid for name \"localhost\""]),
        (ours.sign("127.0.0.1"), &["not valid for name \"localhost\""]),
    ];
    for (leaf, pieces) in cases {
        assert_tls(send(RootCertStore::empty(), under(trust(), url(at(&leaf)))).await, pieces);
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_stands_in_place_of_the_machines_or_beside_them() {
    let (own, machines) = (Authority::new("ours"), Authority::new("others"));
    let (by_own, by_machines) = (secure(&own.sign("localhost"), None).0, secure(&machines.sign("localhost"), None).0);
    let url = |address: SocketAddr| format!("https://localhost:{}/", address.port());
    let beside = || Tls { machine_roots: true, ..trusting(&own, None) };
    for (tls, address) in [(Tls::default(), by_machines), (beside(), by_machines), (beside(), by_own)] {
        assert_eq!(answer(send(machines.roots(), under(tls, url(address))).await).body, "ok");
    }
    for (tls, address) in [(trusting(&own, None), by_machines), (Tls::default(), by_own)] {
        assert_tls(send(machines.roots(), under(tls, url(address))).await, &["UnknownIssuer"]);
    }
}

#[tokio::test]
async fn a_stranger_does_not_learn_who_we_are() {
    let ours = Authority::new("ours");
    let client = ours.sign("backstop");
    let (address, certificates) = secure(&ours.sign("localhost"), None);
    let asking = secure(&ours.sign("localhost"), Some(&ours)).0;
    let dial = Dial { tls: trusting(&ours, client.identity()), ..Dial::default() }.to_stranger();
    for (address, is_asked) in [(address, false), (asking, true)] {
        let stranger = under(dial.tls.clone(), format!("https://localhost:{}/", address.port()));
        let reply = send(RootCertStore::empty(), stranger).await;
        assert_eq!(matches!(reply, Reply::Failure(_)), is_asked, "{reply:?}");
    }
    assert_eq!(certificates.recv().unwrap(), None);
}

#[tokio::test]
async fn connections_are_shared_under_one_identity_and_not_between_two() {
    let ours = Authority::new("ours");
    let (one, other) = (ours.sign("one"), ours.sign("other"));
    let (address, certificates) = secure(&ours.sign("localhost"), Some(&ours));
    let transport = HttpTransport::new(RootCertStore::empty(), Guard::default());
    for leaf in [&one, &other, &one, &other] {
        let endpoint = under(trusting(&ours, leaf.identity()), format!("https://localhost:{}/", address.port()));
        assert_eq!(answer(transport.send(sending(endpoint, draft(vec![], "{}"))).await).body, "ok");
        assert_eq!(certificates.recv().unwrap(), Some(leaf.certificate.der().clone()));
    }
}
