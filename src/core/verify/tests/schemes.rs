//! What is particular to one scheme, and samples of those that publish no example.

use super::*;
use crate::core::verify::handshake::Reply;

const SECRET: &str = "s3cr3t of a test";

/// Signs a sample by the recipe's own words, spelled out here a second time.
fn signed(
    scheme: Scheme,
    now_s: u64,
    headers: &[(&str, &str)],
    body: &[u8],
    message: &[u8],
    write: fn(&str) -> (&'static str, String),
) -> Sample {
    let mac = text(SECRET).mac(Hash::Sha256, &[message]).unwrap();
    let (name, value) = write(&crate::core::secret::hex(&mac));
    let mut sample = sample(scheme, text(SECRET), now_s, headers, body);
    sample.headers.push((name.to_owned(), value.into_bytes()));
    sample
}

pub(super) fn stripe() -> Sample {
    let body = br#"{"id":"evt_1","object":"event","type":"invoice.paid"}"#;
    let message = [b"1492774577.", &body[..]].concat();
    signed(of(Provider::Stripe), 1_492_774_577, &[], body, &message, |mac| {
        ("stripe-signature", format!("t=1492774577,v1={mac}"))
    })
}

pub(super) fn shopify() -> Sample {
    let body = br#"{"id":820982911946154508}"#;
    let mac = text(SECRET).mac(Hash::Sha256, &[body]).unwrap();
    let [value, _] = Encoding::Base64.texts(&mac);
    sample(of(Provider::Shopify), text(SECRET), 0, &[("x-shopify-hmac-sha256", &value)], body)
}

pub(super) fn retell() -> Sample {
    let body = br#"{"event":"call_ended","call":{"call_id":"c1"}}"#;
    let message = [&body[..], b"1700000000123"].concat();
    signed(of(Provider::Retell), 1_700_000_000, &[], body, &message, |mac| {
        ("x-retell-signature", format!("v=1700000000123,d={mac}"))
    })
}

pub(super) fn zoom() -> Sample {
    let body = br#"{"event":"meeting.started","event_ts":1700000000000}"#;
    let message = [b"v0:1700000000:", &body[..]].concat();
    signed(of(Provider::Zoom), 1_700_000_000, &[("x-zm-request-timestamp", "1700000000")], body, &message, |mac| {
        ("x-zm-signature", format!("v0={mac}"))
    })
}

/// A recipe that uses what the named ones do not.
pub(super) fn by_hand() -> Sample {
    let recipe = hmac::Recipe {
        header: "x-sig".to_owned(),
        layout: Layout::Plain { prefix: "h=".to_owned(), separator: Some(',') },
        template: Template::new("{id}|{timestamp}|{url}|{body}").unwrap(),
        hash: Hash::Sha512,
        encoding: Encoding::Base64Url,
        time: Some(Time { place: TimePlace::Header("x-ms".to_owned()), unit: Unit::Millis }),
        id: Some("x-id".to_owned()),
    };
    let body = b"anything\x00\xff";
    let message = [b"m-1|1700000000123|https://a.example/in/x|", &body[..]].concat();
    let mac = text(SECRET).mac(Hash::Sha512, &[&message]).unwrap();
    let [padded, _] = Encoding::Base64Url.texts(&mac);
    let headers = [("x-id", "m-1"), ("x-ms", "1700000000123"), ("x-sig", &format!("h={padded}"))];
    let mut sample = sample(Scheme::Hmac(recipe), text(SECRET), 1_700_000_000, &headers, body);
    sample.verification.public_url = Some("https://a.example".to_owned());
    sample
}

#[test]
fn several_signatures_may_stand_in_one_header_and_unknown_ones_are_passed_over() {
    for (name, header, before, behind) in [
        ("standard", "webhook-signature", "v1,AAAA v2,whatever ", " v1,BBBB"),
        ("v1a", "webhook-signature", "v1,AAAA v1a,AAAA ", " v1a,BBBB"),
        ("stripe", "stripe-signature", "v0=1,v1=00,", ",v1=11,x"),
        ("by hand", "x-sig", "g=1,h=AA, ", " ,h=BB"),
    ] {
        let (_, mut sample) = samples().into_iter().find(|(other, _)| *other == name).unwrap();
        let value = String::from_utf8(sample.header(header).clone()).unwrap();
        *sample.header(header) = format!("{before}{value}{behind}").into_bytes();
        assert_eq!(sample.proof().map(|proof| proof.secret), Ok(Some(0)), "{name}");
        let separator = if name == "standard" || name == "v1a" { " " } else { "," };
        *sample.header(header) = vec![value; SIGNATURES_MAX + 1].join(separator).into_bytes();
        assert!(matches!(sample.proof(), Err(Denied::Malformed { .. })), "{name}: too many");
    }
}

#[test]
fn a_signature_is_written_in_one_way_only() {
    let mut upper = stripe();
    let value = String::from_utf8(upper.header("stripe-signature").clone()).unwrap();
    let (time, mac) = value.split_once(",v1=").unwrap();
    *upper.header("stripe-signature") = format!("{time},v1={}", mac.to_uppercase()).into_bytes();
    assert!(upper.proof().is_ok(), "all in large letters");
    for wrong in [
        format!("{time},v1={}", mac.replacen(|letter: char| letter.is_ascii_lowercase(), "A", 1)),
        format!("{time},v1={mac}0"),
        format!("{time},{time},v1={mac}"),
        format!("t=01492774577,v1={mac}"),
        format!("t=+1492774577,v1={mac}"),
        format!("v1={mac}"),
    ] {
        *upper.header("stripe-signature") = wrong.clone().into_bytes();
        assert!(upper.proof().is_err(), "{wrong}");
    }
    let mut bare = by_hand();
    let value = String::from_utf8(bare.header("x-sig").clone()).unwrap();
    *bare.header("x-sig") = value.trim_end_matches('=').as_bytes().to_vec();
    assert!(bare.proof().is_ok(), "base64url without padding");
}

#[test]
fn an_id_ends_where_it_is_signed_to_end() {
    // `a.1` at 2 and `a` at 1 would sign the same bytes.
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let mac = Secret::standard(secret).unwrap().mac(Hash::Sha256, &[b"a.1614265330.1614265330.x"]).unwrap();
    let [mac, _] = Encoding::Base64.texts(&mac);
    let signature = format!("v1,{mac}");
    let sent = |id: &str, body: &[u8]| {
        let headers =
            [("webhook-id", id), ("webhook-timestamp", "1614265330"), ("webhook-signature", signature.as_str())];
        let secret = Secret::standard_check(secret).unwrap();
        sample(Scheme::Standard, secret, 1_614_265_330, &headers, body).proof()
    };
    assert_eq!(sent("a", b"1614265330.x").map(|proof| proof.id), Ok(Some("a".to_owned())));
    assert!(matches!(sent("a.1614265330", b"x"), Err(Denied::Malformed { .. })));
    let mut by_hand = by_hand();
    assert_eq!(by_hand.proof().map(|proof| proof.id), Ok(Some("m-1".to_owned())));
    *by_hand.header("x-id") = b"m|1".to_vec();
    assert!(matches!(by_hand.proof(), Err(Denied::Malformed { .. })));
    *by_hand.header("x-id") = vec![b'm'; ID_LEN_MAX + 1];
    assert!(matches!(by_hand.proof(), Err(Denied::Malformed { .. })));
}

#[test]
fn headers_of_two_families_are_not_mixed() {
    let (_, mut svix) = samples().into_iter().find(|(name, _)| *name == "svix").unwrap();
    svix.headers.push(("webhook-id".to_owned(), b"msg_other".to_vec()));
    assert_eq!(svix.proof().map(|proof| proof.id), Ok(Some("msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned())));
    assert_eq!(svix.verification.claimed_id(&svix.headers).as_deref(), Some("msg_p5jXN8AQM9LWM0D4loKWxJek"));
    svix.headers.push(("webhook-signature".to_owned(), b"v1,AAAA".to_vec()));
    assert!(svix.proof().is_err());
}

#[test]
fn twilio_takes_the_url_with_its_port_or_without_and_denies_a_body_that_is_not_signed() {
    let samples = samples();
    let (_, form) = samples.iter().find(|(name, _)| *name == "twilio, a form").unwrap();
    for (url, right) in
        [("https://mycompany.com:443", true), ("https://mycompany.com:444", false), ("http://mycompany.com", false)]
    {
        let mut ported = form.clone();
        ported.verification.public_url = Some(url.to_owned());
        assert_eq!(ported.proof().is_ok(), right, "{url}");
    }
    let (_, hashed) = samples.iter().find(|(name, _)| *name == "twilio, a hashed body").unwrap();
    let other_body = Sample { body: b"{}".to_vec(), ..hashed.clone() };
    assert_eq!(other_body.proof(), Err(Denied::Mismatch));
    // A signature over a URL alone holds for no body but none.
    let mac = text("12345").mac(Hash::Sha1, &[b"https://mycompany.com/in/x"]).unwrap();
    let [mac, _] = Encoding::Base64.texts(&mac);
    let mut bare = sample(Scheme::Twilio, text("12345"), 0, &[("x-twilio-signature", &mac)], b"");
    bare.verification.public_url = Some("https://mycompany.com".to_owned());
    assert!(bare.proof().is_ok());
    bare.body = b"{}".to_vec();
    assert_eq!(bare.proof(), Err(Denied::Uncovered));
    // With a shared key it is SHA-256, by the header's word.
    let mac = text("12345").mac(Hash::Sha256, &[b"https://mycompany.com/in/x"]).unwrap();
    let [mac, _] = Encoding::Base64.texts(&mac);
    let mut shared = sample(Scheme::Twilio, text("12345"), 0, &[("x-twilio-signature", &mac)], b"");
    shared.verification.public_url = bare.verification.public_url;
    assert_eq!(shared.proof(), Err(Denied::Mismatch));
    let settings = "x-twilio-webhooks-signature-settings".to_owned();
    shared.headers.push((settings.clone(), b"key=k, algorithm=HMAC_SHA256".to_vec()));
    assert!(shared.proof().is_ok());
    *shared.header(&settings) = b"algorithm=HMAC_MD5".to_vec();
    assert!(matches!(shared.proof(), Err(Denied::Malformed { .. })));
}

#[test]
fn credentials_are_shown_whole_and_in_their_place() {
    use crate::core::verify::credential::Credential::{Basic, Bearer, Header};
    for (credential, name, value, right) in [
        (Bearer, "authorization", "Bearer user:pass", true),
        (Bearer, "authorization", "bearer  user:pass", true),
        (Bearer, "authorization", "Bearer user:pas", false),
        (Bearer, "authorization", "Bearer user:passs", false),
        (Bearer, "authorization", "Basic user:pass", false),
        (Bearer, "authorization", "user:pass", false),
        (Bearer, "authorization", "Bearer", false),
        (Bearer, "authorization", "", false),
        (Basic, "authorization", "Basic dXNlcjpwYXNz", true),
        (Basic, "authorization", "Basic dXNlcjpwYXNy", false),
        (Basic, "authorization", "Basic %%%", false),
        (Basic, "authorization", "Bearer dXNlcjpwYXNz", false),
        (Header("x-key".into()), "x-key", "user:pass", true),
        (Header("x-key".into()), "x-key", "user:pass ", false),
        (Header("x-key".into()), "x-other", "user:pass", false),
    ] {
        let scheme = Scheme::Credential(credential);
        let mut sample = sample(scheme, text("user:pass"), 0, &[(name, value)], b"any");
        sample.verification.secrets.insert(0, text("another"));
        let proof = sample.proof();
        assert_eq!(proof.is_ok(), right, "{value}");
        assert_eq!(sample.verification.knock(&sample.request()).is_ok(), right, "{value}: before the body");
        if right {
            assert_eq!(proof, Ok(Proof { secret: Some(1), id: None, signed: None }));
        }
    }
}

#[test]
fn a_token_in_the_path_is_asked_for_before_all_else() {
    let (tokens, scheme) = (vec![text("first token here"), text("second token here")], of(Provider::Github));
    let verification = Verification { tokens, scheme, secrets: vec![text("x")], ..Verification::default() };
    let headers: Vec<(String, Vec<u8>)> = vec![];
    let knock = |token: Option<&'static str>| {
        verification.knock(&Request { now: Timestamp::ZERO, peer: None, token, target: "/in/x", headers: &headers })
    };
    assert_eq!((knock(Some("first token here")), knock(Some("second token here"))), (Ok(()), Ok(())));
    for wrong in [None, Some(""), Some("first token her"), Some("first token here/"), Some("First token here")] {
        assert_eq!(knock(wrong), Err(Denied::Token));
    }
}

/// JSON by hand.
struct Flat(Vec<(&'static str, &'static str)>, usize);

impl Fields for Flat {
    fn text(&self, pointer: &str) -> Option<String> {
        self.0.iter().find(|(other, _)| *other == pointer).map(|(_, text)| (*text).to_owned())
    }
    fn items(&self, pointer: &str) -> Option<usize> {
        (pointer == "/value").then_some(self.1)
    }
}

#[test]
fn every_notification_of_microsofts_must_show_the_state() {
    let verification = Verification {
        scheme: Scheme::ClientState,
        secrets: vec![text("old"), text("state")],
        ..Verification::default()
    };
    let headers: Vec<(String, Vec<u8>)> = vec![];
    let request = Request { now: Timestamp::ZERO, peer: None, token: None, target: "/in/x", headers: &headers };
    let prove = |states: Vec<(&'static str, &'static str)>, count| {
        verification.prove(&request, b"", &Flat(states, count)).map(|proof| proof.secret)
    };
    let (first, second) = (("/value/0/clientState", "state"), ("/value/1/clientState", "state"));
    assert_eq!(prove(vec![first], 1), Ok(Some(1)));
    assert_eq!(prove(vec![first, second], 2), Ok(Some(1)));
    assert_eq!(prove(vec![first], 2), Err(Denied::Mismatch));
    assert_eq!(prove(vec![second], 2), Err(Denied::Mismatch));
    assert_eq!(prove(vec![("/value/0/clientState", "State")], 1), Err(Denied::Mismatch));
    assert!(matches!(prove(vec![first], 0), Err(Denied::Malformed { .. })));
    assert!(matches!(verification.prove(&request, b"", &Nothing), Err(Denied::Malformed { .. })));
}

#[test]
fn handshakes_say_back_only_what_they_should() {
    let headers: Vec<(String, Vec<u8>)> = vec![];
    let at =
        |target: &'static str| Request { now: Timestamp::ZERO, peer: None, token: None, target, headers: &headers };
    let with = |handshake| Verification {
        handshake: Some(handshake),
        secrets: vec![text("zoom secret")],
        ..Verification::default()
    };
    let said = |body: &str| Ok(Reply { content_type: "text/plain; charset=utf-8", body: body.to_owned() });
    // Meta: for the right token only.
    let meta = with(Handshake::Meta(vec![text("old"), text("agreed")]));
    assert_eq!(
        meta.greet(&at("/in/m?hub.mode=subscribe&hub.verify_token=agreed&hub.challenge=1158201444")),
        said("1158201444")
    );
    for wrong in [
        "/in/m",
        "/in/m?hub.mode=subscribe&hub.verify_token=Agreed&hub.challenge=1",
        "/in/m?hub.verify_token=agreed&hub.challenge=1",
        "/in/m?hub.mode=subscribe&hub.verify_token=agreed&hub.challenge=",
    ] {
        assert!(meta.greet(&at(wrong)).is_err(), "{wrong}");
    }
    // Microsoft: whatever it is, as text.
    let microsoft = with(Handshake::Microsoft);
    let welcome = |target| microsoft.welcome(&at(target));
    assert_eq!(welcome("/in/m?validationToken=Validation%3A+a%3Cb%3E"), Some(said("Validation: a<b>")));
    assert_eq!(welcome("/in/m?other=1"), None);
    assert!(matches!(welcome("/in/m?validationToken=a%0d%0ab"), Some(Err(_))));
    assert!(matches!(welcome("/in/m?validationToken=%ff"), Some(Err(_))));
    assert!(matches!(welcome("/in/m?validationToken="), Some(Err(_))));
    // Slack: only its own question.
    let slack = with(Handshake::Slack);
    let proof = Proof { secret: Some(0), ..Proof::default() };
    let ask = |verification: &Verification, fields: Vec<(&'static str, &'static str)>| {
        verification.answer(&proof, &Flat(fields, 0))
    };
    assert_eq!(ask(&slack, vec![("/type", "url_verification"), ("/challenge", "3eZbrw1a")]), Some(said("3eZbrw1a")));
    assert_eq!(ask(&slack, vec![("/type", "event_callback"), ("/challenge", "x")]), None);
    // Zoom's own example; and nothing that could be one of its messages is ever signed.
    let zoom = with(Handshake::Zoom);
    let validate = |token| ask(&zoom, vec![("/event", "endpoint.url_validation"), ("/payload/plainToken", token)]);
    let Some(Ok(reply)) = validate("qgg8vlvZRS6UYooatFL8Aw") else { panic!() };
    let mac = text("zoom secret").mac(Hash::Sha256, &[b"qgg8vlvZRS6UYooatFL8Aw"]).unwrap();
    let expected =
        format!(r#"{{"plainToken":"qgg8vlvZRS6UYooatFL8Aw","encryptedToken":"{}"}}"#, crate::core::secret::hex(&mac));
    assert_eq!((reply.content_type, reply.body), ("application/json", expected));
    for wrong in ["", "v0:1700000000:{}", "a\"b", "a b"] {
        assert!(matches!(validate(wrong), Some(Err(Denied::Malformed { .. }))), "{wrong}");
    }
    assert_eq!(ask(&zoom, vec![("/event", "meeting.started")]), None);
}
