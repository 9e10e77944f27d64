//! Who may send, over real sockets: what is proven comes in, what is not is told so, noted or kept, and never stored.

use backstop::core::refused::{Refused, Why};
use backstop::core::secret::Secret;
use backstop::core::sign::Signing;
use backstop::core::verify::credential::Credential;
use backstop::core::verify::handshake::Handshake;
use backstop::core::verify::network::Allowed;
use backstop::core::verify::recipes::Provider;
use backstop::core::verify::{OnFail, Scheme};
use backstop::engine::Clock as _;
use backstop::journal::refused::{Kept, Limits as Keeping, Wanted};
use base64::Engine as _;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::*;

const SECRET: &str = "a secret of these tests";
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TOKEN: &str = "0123456789-a-token";

fn secret() -> Secret {
    Secret::text(SECRET).unwrap()
}

fn signed_by(provider: Provider) -> Verification {
    let scheme = Scheme::Hmac(provider.recipe().unwrap());
    Verification { scheme, secrets: vec![Secret::text("another").unwrap(), secret()], ..Verification::default() }
}

fn verified(name: &str, verification: Verification) -> Source {
    Source { verification, type_at: vec![Place::Pointer("/type".to_owned())], ..plain(name) }
}

fn mac<M: Mac + KeyInit>(message: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

fn hex(message: &[u8]) -> String {
    mac::<Hmac<Sha256>>(message).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The headers of `signing` for `body`, at the time of now and `seconds` more.
fn headers(signing: &Signing, id: &str, seconds: i64, body: &[u8]) -> String {
    let now = SystemClock.now().shifted(seconds * 1000);
    signing.headers(id, now, body).iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

fn now_s() -> u64 {
    SystemClock.now().seconds()
}

/// Refused requests in a folder that goes with them.
struct Keeper {
    refusals: Refusals,
    _dir: tempfile::TempDir,
}

impl Keeper {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let limits = Keeping { count_max: 100, bytes_max: 16 << 20 };
        Self { refusals: Refusals::open(dir.path(), limits, Vec::new(), 1).unwrap(), _dir: dir }
    }

    /// The only one there is, whole.
    fn only(&self) -> Kept {
        let wanted =
            Wanted { source: None, why: None, since: None, until: None, after: None, newest_first: true, limit: 10 };
        let (kept, _) = self.refusals.list(&wanted);
        assert_eq!(kept.len(), 1, "{kept:?}");
        self.refusals.get(kept[0].id).unwrap().unwrap()
    }
}

async fn open_beside(sources: Vec<Source>) -> (Door, Keeper) {
    let keeper = Keeper::new();
    (open_keeping(sources, 64, 64, keeper.refusals.clone()).await, keeper)
}

/// Asserts that this is a no of `status` that tells nothing secret.
fn assert_denied(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.header("www-authenticate").is_some(), status == 401, "{}", answer.head);
    let detail = answer.problem()["detail"].as_str().unwrap().to_owned();
    for secret in [SECRET, WHSEC, TOKEN] {
        assert!(!answer.body.contains(secret) && !answer.head.contains(secret));
    }
    detail
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_event_comes_in_and_its_senders_retry_is_the_same_event() {
    let source = Source {
        type_at: vec![Place::Header("x-github-event".to_owned())],
        dedup: DedupRule::Header("x-github-delivery".to_owned()),
        body_max_bytes: 1 << 20,
        ..verified("github", signed_by(Provider::Github))
    };
    let door = open(vec![source]).await;
    // A body that is verified beside the others, and one that is verified on a thread of its own.
    for body in [b"{\"action\":\"opened\"}".to_vec(), vec![b'x'; 600 << 10]] {
        let signed = headers(&Signing::Github(vec![secret()]), "id", 0, &body);
        let sent = |delivery: &str| {
            let more = format!("{signed}x-github-event: push\r\nx-github-delivery: {delivery}-{}\r\n", body.len());
            door.request("POST", "/in/github", &more, &body)
        };
        let (first, again, other) = (sent("1"), sent("1"), sent("2"));
        assert_eq!((first.status, again.status), (202, 202));
        assert_eq!((first.id(), again.header("backstop-duplicate")), (again.id(), Some("true")));
        assert_ne!(first.id(), other.id());
        assert_eq!(door.event(first.id()).draft.event_type, "push");
        let flipped = [&body[..body.len() - 1], b"!"].concat();
        let detail = assert_denied(&door.request("POST", "/in/github", &signed, &flipped), 401);
        assert!(detail.contains("does not fit any secret"), "{detail}");
    }
    assert_eq!((door.stored(), door.turned("unverified"), door.turned("duplicate")), (4, 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_taken_once_whoever_sends_it_again() {
    let secrets = vec![Secret::standard_check(WHSEC).unwrap()];
    let verification = Verification { scheme: Scheme::Standard, secrets, ..Verification::default() };
    let slack = Source {
        dedup: DedupRule::Fields { pointers: vec!["/event_id".to_owned()], body: false },
        ..verified("slack", signed_by(Provider::Slack))
    };
    let standard = Source { dedup: DedupRule::Message, ..verified("standard", verification) };
    let door = open(vec![standard, slack]).await;
    let signing = Signing::Standard(vec![Secret::standard(WHSEC).unwrap()]);
    let send = |headers: &str| door.request("POST", "/in/standard", headers, b"{\"type\":\"a\"}");
    let sign = |id: &str, seconds| headers(&signing, id, seconds, b"{\"type\":\"a\"}");
    let first = send(&sign("msg_1", 0));
    // The sender's retry is signed at another time; a replay is the same to the letter. Both get what the first got.
    assert_eq!((send(&sign("msg_1", -60)).id(), send(&sign("msg_1", 0)).id()), (first.id(), first.id()));
    assert_ne!(send(&sign("msg_2", 0)).id(), first.id());
    assert_denied(&send(&sign("msg_1", 0).replace("msg_1", "msg_3")), 401);
    for (seconds, piece) in [(-400, "s behind the clock"), (400, "s ahead of the clock")] {
        let detail = assert_denied(&send(&sign("msg_4", seconds)), 401);
        assert!(detail.contains(piece) && detail.contains("300s are allowed"), "{detail}");
    }
    assert_eq!(door.stored(), 2);
    // What has no id is told by what is signed: its time and its body.
    let command = |time: u64| {
        let signature = hex(format!("v0:{time}:command=/x").as_bytes());
        let headers = format!("x-slack-request-timestamp: {time}\r\nx-slack-signature: v0={signature}\r\n");
        door.request("POST", "/in/slack", &headers, b"command=/x")
    };
    let now = now_s();
    let (first, replayed, second) = (command(now), command(now), command(now - 1));
    assert_eq!((replayed.id(), replayed.header("backstop-duplicate")), (first.id(), Some("true")));
    assert_ne!(second.id(), first.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_rejected_is_noted_and_what_is_quarantined_is_kept() {
    let body = b"{\"type\":\"planted\"}";
    for (on_fail, why) in [(OnFail::Reject, Why::Unverified), (OnFail::Quarantine, Why::Quarantined)] {
        let verification = Verification { on_fail, ..signed_by(Provider::Github) };
        let source = Source { strict: true, ..verified("github", verification) };
        let (door, keeper) = open_beside(vec![source.clone()]).await;
        let answer = door.request("POST", "/in/github", "x-hub-signature-256: sha256=00\r\nx-raw: 1\r\n", body);
        let detail = assert_denied(&answer, 401);
        let kept = keeper.only();
        assert_eq!((kept.refused.why, &kept.refused.detail), (why, &detail));
        assert_eq!(kept.refused.body_bytes, Some(body.len() as u64));
        assert!(kept.refused.peer.as_deref().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(kept.whole, on_fail == OnFail::Quarantine);
        assert_eq!(door.stored(), 0);
        if on_fail == OnFail::Reject {
            assert!(kept.refused.headers.is_empty() && kept.refused.body.is_empty());
        } else {
            // An operator who takes it in vouches for it.
            assert_eq!(&kept.refused.body[..], body);
            let read = ingest::reader(&[source]);
            let draft = read(&kept.refused.source, kept.refused.headers, kept.refused.body).unwrap();
            assert_eq!(draft.event_type, "planted");
        }
    }
}

/// A body over the cap is not read to its end, so nobody knows whose it is: whoever may take it in is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_to_be_proven_says_so() {
    let (door, keeper) = open_beside(vec![verified("github", signed_by(Provider::Github))]).await;
    assert_eq!(door.post("github", &vec![b'x'; CAP + 1]).status, 413);
    let kept = keeper.only();
    assert_eq!(kept.refused.why, Why::TooLarge);
    assert!(kept.refused.detail.ends_with("who sent it is not proven"), "{}", kept.refused.detail);
}

/// What an operator took in and its sender brings again, signed right this time, is one event.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_out_of_quarantine_is_known_when_it_comes_again() {
    let secrets = vec![Secret::standard_check(WHSEC).unwrap()];
    let verification =
        Verification { scheme: Scheme::Standard, secrets, on_fail: OnFail::Quarantine, ..Verification::default() };
    let source = Source { dedup: DedupRule::Message, ..verified("standard", verification) };
    let (door, keeper) = open_beside(vec![source.clone()]).await;
    let body = b"{\"type\":\"a\"}";
    let wrong = Signing::Standard(vec![Secret::standard("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA").unwrap()]);
    assert_denied(&door.request("POST", "/in/standard", &headers(&wrong, "msg_1", 0, body), body), 401);
    let Refused { source: name, headers: kept, body: kept_body, .. } = keeper.only().refused;
    let draft = ingest::reader(&[source])(&name, kept, kept_body).unwrap();
    let taken = door.engine.accept(draft).await.unwrap();
    let right = Signing::Standard(vec![Secret::standard(WHSEC).unwrap()]);
    let again = door.request("POST", "/in/standard", &headers(&right, "msg_1", 0, body), body);
    assert_eq!((again.id(), again.header("backstop-duplicate")), (taken.id, Some("true")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_may_have_to_end_in_a_token() {
    let tokens = vec![Secret::text("an-older-token-xx").unwrap(), Secret::text(TOKEN).unwrap()];
    let verification = Verification { tokens, ..Verification::default() };
    let (door, keeper) = open_beside(vec![Source { verification, ..flyflow() }, plain("plain")]).await;
    let post = |path: &str| door.request("POST", path, "", CALL.as_bytes());
    assert_eq!(post(&format!("/in/flyflow/{TOKEN}")).status, 202);
    assert_eq!(post(&format!("/in/flyflow/{TOKEN}?a=b")).status, 202);
    assert_eq!(post("/in/flyflow/an-older-token-xx").status, 202);
    for wrong in ["/in/flyflow", "/in/flyflow/", "/in/flyflow/0123456789-a-toke", "/in/flyflow/0123456789-a-token1"] {
        assert_denied(&post(wrong), 401);
    }
    for nothing in [&format!("/in/flyflow/{TOKEN}/more"), &format!("/in/plain/{TOKEN}"), &format!("/in/nobody/{TOKEN}")]
    {
        assert_eq!(post(nothing).status, 404, "{nothing}");
    }
    assert_eq!(door.turned("unverified"), 4);
    let wanted =
        Wanted { source: None, why: None, since: None, until: None, after: None, newest_first: true, limit: 99 };
    assert!(!format!("{:?}", keeper.refusals.list(&wanted)).contains("0123456789"));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_before_the_body_and_never_stored() {
    let with = |name: &str, credential, secret: &str| {
        let secrets = vec![Secret::text(secret).unwrap()];
        verified(name, Verification { scheme: Scheme::Credential(credential), secrets, ..Verification::default() })
    };
    let door = open(vec![
        with("bearer", Credential::Bearer, SECRET),
        with("basic", Credential::Basic, "user:pass"),
        with("key", Credential::Header("x-api-key".to_owned()), SECRET),
    ])
    .await;
    let post =
        |source: &str, header: &str| door.request("POST", &format!("/in/{source}"), &format!("{header}\r\n"), b"{}");
    let bearer = post("bearer", &format!("authorization: Bearer {SECRET}"));
    assert_eq!(bearer.status, 202);
    assert_eq!(door.event(bearer.id()).draft.headers, []);
    assert_eq!(post("basic", "authorization: Basic dXNlcjpwYXNz").status, 202);
    let key = post("key", &format!("X-Api-Key: {SECRET}"));
    assert_eq!((key.status, door.event(key.id()).draft.headers.len()), (202, 0));
    for (source, header, challenge) in [
        ("bearer", "authorization: Bearer x", "Bearer"),
        ("bearer", "x: y", "Bearer"),
        ("basic", "authorization: Basic eDp5", "Basic realm=\"backstop\", charset=\"UTF-8\""),
        ("key", "x-api-key: x", "Webhook"),
    ] {
        let answer = post(source, header);
        assert_denied(&answer, 401);
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
    }
    // The body never comes; the answer does not wait for it.
    let answer = door.raw("POST /in/bearer HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n");
    assert_denied(&answer, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_may_not_send_are_forbidden() {
    let from = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let with = |name: &str, allowed| verified(name, Verification { allowed: Some(allowed), ..Verification::default() });
    let door = open(vec![
        with("near", Allowed { from: from(&["127.0.0.0/8"]), proxies: vec![] }),
        with("far", Allowed { from: from(&["192.0.2.0/24"]), proxies: vec![] }),
        with("proxied", Allowed { from: from(&["192.0.2.0/24"]), proxies: from(&["127.0.0.1"]) }),
    ])
    .await;
    let post = |source: &str, header: &str| door.request("POST", &format!("/in/{source}"), header, b"{}");
    assert_eq!(post("near", "").status, 202);
    assert_denied(&post("far", "x-forwarded-for: 192.0.2.1\r\n"), 403);
    assert_denied(&post("proxied", ""), 403);
    assert_eq!(post("proxied", "x-forwarded-for: 198.51.100.7, 192.0.2.1\r\n").status, 202);
    assert_denied(&post("proxied", "x-forwarded-for: 192.0.2.1, 198.51.100.7\r\n"), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn twilios_form_is_verified_with_the_url_and_read_as_a_form() {
    let verification = Verification {
        scheme: Scheme::Twilio,
        secrets: vec![secret()],
        public_url: Some("https://hooks.example.com".to_owned()),
        ..Verification::default()
    };
    let source = Source {
        type_at: vec![Place::Form("MessageStatus".to_owned())],
        key_at: vec![Place::Form("MessageSid".to_owned())],
        strict: true,
        ..verified("twilio", verification)
    };
    let door = open(vec![source]).await;
    let message = b"https://hooks.example.com/in/twilio?tenant=a%20bMessageSidSM1MessageStatusdeliveredTo+15550001";
    let signature = base64::engine::general_purpose::STANDARD.encode(mac::<Hmac<Sha1>>(message));
    let post = |path: &str, body: &[u8]| {
        let headers = format!("content-type: application/x-www-form-urlencoded\r\nx-twilio-signature: {signature}\r\n");
        door.request("POST", path, &headers, body)
    };
    let body = b"To=%2B15550001&MessageSid=SM1&MessageStatus=delivered";
    let accepted = post("/in/twilio?tenant=a%20b", body);
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    let event = door.event(accepted.id());
    assert_eq!((event.draft.event_type.as_str(), event.draft.key.as_deref()), ("delivered", Some("SM1")));
    assert_eq!(&event.draft.body[..], body);
    assert_denied(&post("/in/twilio?tenant=b", body), 401);
    assert_denied(&post("/in/twilio?tenant=a%20b", b"To=%2B15550001&MessageSid=SM2&MessageStatus=delivered"), 401);
}

/// Asserts that this is the answer to a handshake, and that no browser takes it for a page.
fn assert_said(answer: &Answer, content_type: &str, body: &str) {
    assert_eq!((answer.status, answer.body.as_str()), (200, body), "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some(content_type));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

const TEXT: &str = "text/plain; charset=utf-8";

#[tokio::test(flavor = "multi_thread")]
async fn what_providers_ask_before_they_send_is_answered_and_is_no_event() {
    let asking = |name: &str, handshake, verification| {
        verified(name, Verification { handshake: Some(handshake), ..verification })
    };
    let state = Verification { scheme: Scheme::ClientState, secrets: vec![secret()], ..Verification::default() };
    let door = open(vec![
        asking("slack", Handshake::Slack, signed_by(Provider::Slack)),
        asking("zoom", Handshake::Zoom, signed_by(Provider::Zoom)),
        asking("meta", Handshake::Meta(vec![Secret::text("agreed").unwrap()]), signed_by(Provider::Github)),
        asking("microsoft", Handshake::Microsoft, state),
    ])
    .await;
    let now = now_s();
    let signed = |names: [&str; 2], body: &str| {
        let signature = hex(format!("v0:{now}:{body}").as_bytes());
        format!("{}: {now}\r\n{}: v0={signature}\r\n", names[0], names[1])
    };
    // Slack's challenge is answered only if it is signed.
    let challenge =
        r#"{"type":"url_verification","token":"x","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}"#;
    let by_slack = signed(["x-slack-request-timestamp", "x-slack-signature"], challenge);
    let answer = door.request("POST", "/in/slack", &by_slack, challenge.as_bytes());
    assert_said(&answer, TEXT, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    assert_denied(&door.request("POST", "/in/slack", "", challenge.as_bytes()), 401);
    // Zoom's token comes back signed; unsigned it would be a way to have anything signed.
    let validation =
        r#"{"event":"endpoint.url_validation","payload":{"plainToken":"qgg8vlvZRS6UYooatFL8Aw"},"event_ts":1}"#;
    let by_zoom = signed(["x-zm-request-timestamp", "x-zm-signature"], validation);
    let expected =
        format!(r#"{{"plainToken":"qgg8vlvZRS6UYooatFL8Aw","encryptedToken":"{}"}}"#, hex(b"qgg8vlvZRS6UYooatFL8Aw"));
    assert_said(&door.request("POST", "/in/zoom", &by_zoom, validation.as_bytes()), "application/json", &expected);
    assert_denied(&door.request("POST", "/in/zoom", "", validation.as_bytes()), 401);
    // Meta's GET.
    let ask = |token: &str| {
        let path = format!("/in/meta?hub.mode=subscribe&hub.verify_token={token}&hub.challenge=1158201444");
        door.request("GET", &path, "", b"")
    };
    assert_said(&ask("agreed"), TEXT, "1158201444");
    assert_denied(&ask("Agreed"), 401);
    assert_denied(&door.request("GET", "/in/meta", "", b""), 401);
    assert_eq!(door.request("PUT", "/in/meta", "", b"").header("allow"), Some("GET, POST"));
    assert_eq!(door.request("GET", "/in/slack", "", b"").header("allow"), Some("POST"));
    // Microsoft's token is text, whatever is in it.
    let path = "/in/microsoft?validationToken=Validation%3a+%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    assert_said(
        &door.request("POST", path, "content-type: text/plain\r\n", b""),
        TEXT,
        "Validation: <script>alert(1)</script>",
    );
    assert_denied(&door.request("POST", "/in/microsoft?validationToken=a%0d%0aset-cookie:x", "", b""), 401);
    assert_eq!((door.stored(), door.turned("unverified")), (0, 5));
    // And then it sends.
    let notification = format!(r#"{{"value":[{{"clientState":"{SECRET}"}},{{"clientState":"{SECRET}"}}]}}"#);
    assert_eq!(door.post("microsoft", notification.as_bytes()).status, 202);
    let forged = notification.replacen(SECRET, "guess", 1);
    assert_denied(&door.post("microsoft", forged.as_bytes()), 401);
    assert_denied(&door.post("microsoft", b"{\"value\":[]}"), 401);
    assert_eq!(door.stored(), 1);
}
