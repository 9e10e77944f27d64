//! Every scheme against examples that its provider published, with every bit of them flipped, and what is no example.

use std::time::Duration;

use proptest::prelude::*;

use super::hmac::{Layout, Template, TemplateError, Time, TimePlace, Unit};
use super::recipes::Provider;
use super::*;
use crate::core::network::Network;
use crate::core::secret::{Encoding, Hash};

mod schemes;

/// A request that is right, and all that makes it so.
#[derive(Clone)]
pub(super) struct Sample {
    pub(super) verification: Verification,
    pub(super) now_ms: u64,
    pub(super) target: String,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Headers for Vec<(String, Vec<u8>)> {
    fn values<'a>(&'a self, name: &str) -> Vec<&'a [u8]> {
        self.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_slice()).collect()
    }
}

/// No JSON.
pub(super) struct Nothing;

impl Fields for Nothing {
    fn text(&self, _: &str) -> Option<String> {
        None
    }
    fn items(&self, _: &str) -> Option<usize> {
        None
    }
}

impl Sample {
    pub(super) fn request(&self) -> Request<'_> {
        let now = Timestamp::from_millis(self.now_ms);
        Request { now, peer: None, token: None, target: &self.target, headers: &self.headers }
    }

    pub(super) fn proof(&self) -> Result<Proof, Denied> {
        self.verification.prove(&self.request(), &self.body, &Nothing)
    }

    pub(super) fn header(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.headers.iter_mut().find(|(other, _)| other == name).unwrap().1
    }
}

fn sample(scheme: Scheme, secret: Secret, now_s: u64, headers: &[(&str, &str)], body: &[u8]) -> Sample {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let verification = Verification { scheme, secrets: vec![secret], ..Verification::default() };
    Sample { verification, now_ms: now_s * 1000, target: "/in/x".to_owned(), headers, body: body.to_vec() }
}

fn of(provider: Provider) -> Scheme {
    Scheme::Hmac(provider.recipe().unwrap())
}

fn text(secret: &str) -> Secret {
    Secret::text(secret).unwrap()
}

/// What providers have published, or what their own libraries make (Retell, Zoom, Stripe).
pub(super) fn samples() -> Vec<(&'static str, Sample)> {
    vec![
        ("standard", published("webhook")),
        ("svix", published("svix")),
        ("v1a", published_v1a()),
        ("github", published_by_github()),
        ("slack", published_by_slack()),
        ("twilio, a form", published_by_twilio("RSOYDt4T1cUTdK1PDd93/VVr8B8=", TWILIO_FORM, "")),
        ("twilio, a hashed body", published_by_twilio("a9nBmqA0ju/hNViExpshrM61xv4=", TWILIO_JSON, TWILIO_JSON_HASH)),
        ("stripe", schemes::stripe()),
        ("shopify", schemes::shopify()),
        ("retell", schemes::retell()),
        ("zoom", schemes::zoom()),
        ("by hand", schemes::by_hand()),
    ]
}

const STANDARD_BODY: &[u8] = b"{\"test\": 2432232314}";

fn published(family: &str) -> Sample {
    let [id, time, signature] = ["id", "timestamp", "signature"].map(|rest| format!("{family}-{rest}"));
    let headers = [
        (id.as_str(), "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        (&time, "1614265330"),
        (&signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let secret = Secret::standard_check("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    sample(Scheme::Standard, secret, 1_614_265_330, &headers, STANDARD_BODY)
}

fn published_v1a() -> Sample {
    let signature = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==";
    let headers = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", signature),
    ];
    let public = Secret::standard_check("whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=").unwrap();
    sample(Scheme::Standard, public, 1_614_265_330, &headers, STANDARD_BODY)
}

fn published_by_github() -> Sample {
    let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let headers = [("x-hub-signature-256", signature)];
    sample(of(Provider::Github), text("It's a Secret to Everybody"), 0, &headers, b"Hello, World!")
}

fn published_by_slack() -> Sample {
    let headers = [
        ("x-slack-request-timestamp", "1531420618"),
        ("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"),
    ];
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
        channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
        response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
        &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    sample(of(Provider::Slack), text("8f742231b10e8888abcd99yyyzzz85a5"), 1_531_420_618, &headers, body)
}

const TWILIO_FORM: &[u8] =
    b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
const TWILIO_JSON: &[u8] = br#"{"property": "value", "boolean": true}"#;
const TWILIO_JSON_HASH: &str = "&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";

fn published_by_twilio(signature: &str, body: &[u8], hash: &str) -> Sample {
    let kind = if hash.is_empty() { "application/x-www-form-urlencoded" } else { "application/json" };
    let headers = [("content-type", kind), ("x-twilio-signature", signature)];
    let mut sample = sample(Scheme::Twilio, text("12345"), 0, &headers, body);
    sample.verification.public_url = Some("https://mycompany.com".to_owned());
    sample.target = format!("/myapp.php?foo=1&bar=2{hash}");
    sample
}

/// `bytes` with the bit number `bit` turned.
fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 1 << (bit % 8);
}

#[test]
fn what_providers_publish_is_proven() {
    for (name, sample) in samples() {
        let proof = sample.proof().unwrap_or_else(|denied| panic!("{name}: {denied}"));
        assert_eq!(proof.secret, Some(0), "{name}");
        assert!(proof.signed.is_some(), "{name}");
    }
}

#[test]
fn not_one_bit_of_it_can_be_flipped() {
    // Signature, time and id stand in headers; the type of the body decides only how Twilio's is read.
    for (name, sample) in samples() {
        let headers: Vec<String> = sample.headers.iter().map(|(name, _)| name.clone()).collect();
        for header in headers.iter().filter(|header| *header != "content-type") {
            for bit in 0..sample.headers.values(header)[0].len() * 8 {
                let mut flipped = sample.clone();
                flip(flipped.header(header), bit);
                assert!(flipped.proof().is_err(), "{name}: bit {bit} of {header}");
            }
        }
        for bit in 0..sample.body.len() * 8 {
            let mut flipped = sample.clone();
            flip(&mut flipped.body, bit);
            assert!(flipped.proof().is_err() || same_form(&sample, &flipped), "{name}: bit {bit} of the body");
        }
        if sample.verification.public_url.is_some() {
            for bit in 0..sample.target.len() * 8 {
                let mut target = sample.target.clone().into_bytes();
                flip(&mut target, bit);
                let Ok(target) = String::from_utf8(target) else { continue };
                let flipped = Sample { target, ..sample.clone() };
                assert!(flipped.proof().is_err(), "{name}: bit {bit} of the URL");
            }
        }
    }
}

/// Twilio signs a form's fields, not how they are written (`%2B`, `%2b`), nor where a name ends and its value begins.
fn same_form(one: &Sample, other: &Sample) -> bool {
    let signed = |sample: &Sample| {
        let mut pairs: Vec<_> = crate::core::form::pairs(&sample.body).collect();
        pairs.sort_unstable();
        pairs.into_iter().flat_map(|(name, value)| [name, value]).flatten().collect::<Vec<u8>>()
    };
    one.verification.scheme == Scheme::Twilio && one.body == TWILIO_FORM && signed(one) == signed(other)
}

#[test]
fn nothing_is_proven_by_half_of_it() {
    for (name, sample) in samples() {
        for index in 0..sample.headers.len() {
            let (header, value) = sample.headers[index].clone();
            if header == "content-type" {
                continue;
            }
            let mut without = sample.clone();
            without.headers.remove(index);
            assert!(matches!(without.proof(), Err(Denied::Missing { .. })), "{name} without {header}");
            let mut twice = sample.clone();
            twice.headers.push((header.clone(), value));
            assert_eq!(twice.proof(), Err(Denied::Repeated { header: header.clone() }), "{name}");
            let mut empty = sample.clone();
            empty.header(&header).clear();
            assert!(empty.proof().is_err(), "{name} with an empty {header}");
        }
        let stranger = Sample {
            verification: Verification { secrets: vec![text("another")], ..sample.verification.clone() },
            ..sample.clone()
        };
        assert_eq!(stranger.proof(), Err(Denied::Mismatch), "{name}");
        let nobody =
            Sample { verification: Verification { secrets: vec![], ..sample.verification.clone() }, ..sample.clone() };
        assert_eq!(nobody.proof(), Err(Denied::Mismatch), "{name}");
    }
}

#[test]
fn each_of_several_secrets_is_taken_and_named() {
    for (name, sample) in samples() {
        let own = sample.verification.secrets[0].clone();
        for place in 0..4 {
            let mut secrets: Vec<Secret> = (0..3).map(|n| text(&format!("other {n}"))).collect();
            secrets.insert(place, own.clone());
            let rotating =
                Sample { verification: Verification { secrets, ..sample.verification.clone() }, ..sample.clone() };
            assert_eq!(rotating.proof().map(|proof| proof.secret), Ok(Some(place)), "{name}");
        }
    }
}

#[test]
fn a_signed_time_may_be_off_by_the_tolerance_both_ways() {
    let tolerance = Duration::from_secs(300);
    for (name, sample) in samples() {
        let Ok(Proof { signed: Some(Some(signed_ms)), .. }) = sample.proof() else { continue };
        assert_eq!(sample.verification.tolerance, tolerance);
        let at = |now_ms: u64| Sample { now_ms, ..sample.clone() }.proof().map(|_| ());
        assert_eq!((at(signed_ms + 300_000), at(signed_ms - 300_000)), (Ok(()), Ok(())), "{name}");
        assert_eq!(at(signed_ms + 300_001), Err(Denied::Stale { skew_ms: -300_001, tolerance }), "{name}");
        assert_eq!(at(signed_ms - 300_001), Err(Denied::Stale { skew_ms: 300_001, tolerance }), "{name}");
        assert!(matches!(at(0), Err(Denied::Stale { .. })), "{name}");
        assert!(matches!(at(u64::MAX), Err(Denied::Stale { .. })), "{name}");
    }
}

proptest! {
    /// Whatever stands in the headers and the body: nothing panics, and nobody comes in.
    #[test]
    fn noise_proves_nothing(noise in prop::collection::vec(any::<u8>(), 0..200), body in prop::collection::vec(any::<u8>(), 0..100), which in 0..20_usize) {
        for (_, sample) in samples() {
            let mut noisy = sample.clone();
            let place = which % noisy.headers.len();
            if noisy.headers[place].0 == "content-type" {
                continue;
            }
            noisy.headers[place].1 = noise.clone();
            prop_assert!(noisy.proof().is_err());
            let other = Sample { body: body.clone(), ..sample };
            prop_assert!(other.proof().is_err());
        }
    }
}

#[test]
fn a_denial_says_nothing_secret() {
    for (name, sample) in samples() {
        let mut flipped = sample.clone();
        flipped.body.push(b'!');
        let denied = flipped.proof().unwrap_err().to_string();
        for (header, value) in &sample.headers {
            let value = String::from_utf8_lossy(value);
            let parts = value.split(['=', ',', ' ']).filter(|part| part.len() > 8);
            parts.for_each(|part| assert!(!denied.contains(part), "{name}: {header} in {denied}"));
        }
    }
}

/// Addresses: who connects counts, unless that is a proxy that is believed.
#[test]
fn addresses_are_the_peers_or_what_a_believed_proxy_says() {
    let networks = |texts: &[&str]| -> Vec<Network> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let direct = Allowed { from: networks(&["192.0.2.0/24", "2001:db8::/32"]), proxies: vec![] };
    let proxied = Allowed { from: networks(&["192.0.2.0/24"]), proxies: networks(&["10.0.0.0/8", "::1/128"]) };
    for (allowed, peer, forwarded, expected) in [
        (&direct, "192.0.2.7", &[][..], true),
        (&direct, "::ffff:192.0.2.7", &[], true),
        (&direct, "2001:db8::9", &[], true),
        (&direct, "192.0.3.7", &[], false),
        (&direct, "192.0.3.7", &["192.0.2.7"], false),
        (&direct, "192.0.2.7", &["198.51.100.1"], true),
        (&proxied, "10.0.0.1", &["192.0.2.7"], true),
        (&proxied, "::1", &["192.0.2.7"], true),
        (&proxied, "10.0.0.1", &["192.0.2.7:4711"], true),
        (&proxied, "10.0.0.1", &["198.51.100.1, 192.0.2.7 , 10.0.0.9"], true),
        (&proxied, "10.0.0.1", &["198.51.100.1", "192.0.2.7", "10.0.0.9"], true),
        (&proxied, "10.0.0.1", &["192.0.2.7, 198.51.100.1"], false),
        (&proxied, "10.0.0.1", &["192.0.2.7", "198.51.100.1"], false),
        (&proxied, "10.0.0.1", &["192.0.2.7, unknown"], false),
        (&proxied, "10.0.0.1", &["192.0.2.7, "], false),
        (&proxied, "10.0.0.1", &[], false),
        (&proxied, "192.0.2.7", &["198.51.100.1"], true),
        (&proxied, "198.51.100.1", &["192.0.2.7"], false),
    ] {
        let headers: Vec<(String, Vec<u8>)> =
            forwarded.iter().map(|value| ("x-forwarded-for".to_owned(), value.as_bytes().to_vec())).collect();
        assert_eq!(allowed.admits(Some(peer.parse().unwrap()), &headers), expected, "{peer} {forwarded:?}");
    }
    assert!(!direct.admits(None, &Vec::new()));
}

#[test]
fn templates_say_what_is_signed_and_blur_nothing() {
    for good in [
        "{body}",
        "{timestamp}.{body}",
        "v0:{timestamp}:{body}",
        "{body}{timestamp}",
        "{timestamp}{body}",
        "{id}.{timestamp}.{body}",
        "{url}{body}",
    ] {
        assert!(Template::new(good).is_ok(), "{good}");
    }
    for (bad, why) in [
        ("", TemplateError::Body),
        ("{timestamp}", TemplateError::Body),
        ("{body}{body}", TemplateError::Body),
        ("{boddy}", TemplateError::Unknown),
        ("{body", TemplateError::Unknown),
        ("body}", TemplateError::Unknown),
        ("{body}}", TemplateError::Unknown),
        ("{id}{body}", TemplateError::Adjacent),
        ("{id}{timestamp}.{body}", TemplateError::Adjacent),
        ("{body}{url}", TemplateError::Adjacent),
    ] {
        assert_eq!(Template::new(bad), Err(why), "{bad}");
    }
}

#[test]
fn every_named_recipe_is_right() {
    for provider in Provider::ALL {
        let recipe = provider.recipe().unwrap();
        assert_eq!(recipe.time.is_some(), recipe.template.has_time(), "{provider:?}");
        assert!(!recipe.template.has_id() && !recipe.template.has_url());
    }
    let by_hand = schemes::by_hand();
    let Scheme::Hmac(recipe) = by_hand.verification.scheme else { panic!() };
    assert_eq!((recipe.hash, recipe.encoding), (Hash::Sha512, Encoding::Base64Url));
    assert!(matches!(recipe.layout, Layout::Plain { separator: Some(','), .. }));
    assert!(matches!(recipe.time, Some(Time { place: TimePlace::Header(_), unit: Unit::Millis })));
}
