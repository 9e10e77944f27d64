//! How a source knows its sender: `verify`, `secrets`, `tolerance`, `token`, `allow`, `public_url`, `on_fail`.
//!
//! `verify` is a name, a table with the recipe of a sender that is not known by name, or comes with the preset. What
//! would be accepted and mean nothing is refused: secrets that nothing uses, a tolerance where no time is signed.

use std::time::Duration;

use super::presets::Preset;
use super::raw::{Table, Value};
use super::scalar;
use crate::core::secret::{Encoding, Hash, Secret};
use crate::core::source::DedupRule;
use crate::core::verify::credential::Credential;
use crate::core::verify::handshake::Handshake;
use crate::core::verify::hmac::{Layout, Recipe, Template, Time, TimePlace, Unit};
use crate::core::verify::network::Allowed;
use crate::core::verify::recipes::Provider;
use crate::core::verify::{OnFail, Scheme, TOLERANCE, Verification};

/// Most secrets of a source, and most tokens.
const SECRETS_MAX: usize = 8;
/// Most networks of a list.
const NETWORKS_MAX: usize = 256;
/// Longest tolerance: a signature that is good for longer can be used by too many.
const TOLERANCE_MAX: Duration = Duration::from_secs(3600);
/// Shortest and longest token in a path, in bytes.
const TOKEN_LEN: std::ops::RangeInclusive<usize> = 16..=256;
/// Longest texts of a recipe, in bytes.
const TEXT_LEN_MAX: usize = 256;

/// What is read here besides `verify`.
const KEYS: [&str; 8] =
    ["secrets", "tolerance", "token", "allow", "public_url", "handshake", "verify_token", "on_fail"];

/// A name that `verify` can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Off,
    Standard,
    Stripe,
    Github,
    Slack,
    Shopify,
    Twilio,
    Retell,
    Vapi,
    Zoom,
    Meta,
    Microsoft,
    Bearer,
    Basic,
}

impl Style {
    const ALL: [(&'static str, Self); 15] = [
        ("off", Self::Off),
        ("standard", Self::Standard),
        ("svix", Self::Standard),
        ("stripe", Self::Stripe),
        ("github", Self::Github),
        ("slack", Self::Slack),
        ("shopify", Self::Shopify),
        ("twilio", Self::Twilio),
        ("retell", Self::Retell),
        ("vapi", Self::Vapi),
        ("zoom", Self::Zoom),
        ("meta", Self::Meta),
        ("microsoft", Self::Microsoft),
        ("bearer", Self::Bearer),
        ("basic", Self::Basic),
    ];

    /// The name that `scheme` has, if it has one.
    pub(super) fn name_of(scheme: &Scheme) -> Option<&'static str> {
        Self::ALL.into_iter().find(|(_, style)| style.scheme() == *scheme).map(|(name, _)| name)
    }

    fn named(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|(name, _)| *name == text).map(|(_, style)| style).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| format!("\"{name}\"")).join(", ");
            format!("must be one of {names}, or a table with scheme = \"hmac\" or \"api_key\"")
        })
    }

    fn scheme(self) -> Scheme {
        let recipe = |provider: Provider| provider.recipe().map_or(Scheme::Open, Scheme::Hmac);
        match self {
            Self::Off => Scheme::Open,
            Self::Standard => Scheme::Standard,
            Self::Stripe => recipe(Provider::Stripe),
            Self::Github | Self::Meta => recipe(Provider::Github),
            Self::Slack => recipe(Provider::Slack),
            Self::Shopify => recipe(Provider::Shopify),
            Self::Twilio => Scheme::Twilio,
            Self::Retell => recipe(Provider::Retell),
            Self::Vapi => Scheme::Credential(Credential::Header("x-vapi-secret".to_owned())),
            Self::Zoom => recipe(Provider::Zoom),
            Self::Microsoft => Scheme::ClientState,
            Self::Bearer => Scheme::Credential(Credential::Bearer),
            Self::Basic => Scheme::Credential(Credential::Basic),
        }
    }
}

/// Who asks something before it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asks {
    Nothing,
    Slack,
    Zoom,
    Meta,
    Microsoft,
}

/// How a secret's text is read.
#[derive(Clone, Copy)]
enum Reading {
    Text,
    Standard,
    UserAndPassword,
    Encoded(Encoding),
}

/// What `verify` says.
struct Asked {
    scheme: Scheme,
    reading: Reading,
}

/// How the source of `table` knows its sender.
pub(super) fn read(table: &mut Table<'_>, preset: &Preset) -> Verification {
    let given = table.get("verify");
    let said = given.is_some();
    let read = given.map_or_else(|| Some(Asked::of(preset.style)), |value| asked(&value));
    let Some(Asked { scheme, reading }) = read else {
        // What belongs to a scheme makes no sense without it, and is not judged.
        KEYS.into_iter().for_each(|key| drop(table.get(key)));
        return Verification::default();
    };
    let items = table.read("secrets", |value| value.items(SECRETS_MAX)).unwrap_or_default();
    let secrets: Vec<Secret> = items.iter().filter_map(|item| secret(item, reading)).collect();
    let place = table.place_of("secrets");
    match (&scheme, items.is_empty()) {
        (Scheme::Open, false) => place.refuse("are given, but nothing is verified with them; set `verify`, too"),
        (Scheme::Open, true) | (_, false) => {}
        (_, true) if said => place.refuse("is missing or empty; write secrets = [\"${VARIABLE}\"] or [\"file:/path\"]"),
        (_, true) => place.refuse(format!(
            "is missing; preset \"{}\" verifies its sender with secrets = [\"${{VARIABLE}}\"], or not, with verify = \"off\"",
            preset.name
        )),
    }
    let verification = Verification {
        tolerance: tolerance(table, &scheme),
        tokens: tokens(table),
        allowed: table.read("allow", allowed),
        public_url: public_url(table, &scheme),
        handshake: handshake(table, preset),
        on_fail: table.parsed("on_fail", on_fail).unwrap_or_default(),
        scheme,
        secrets,
    };
    if verification.is_open() {
        if verification.on_fail == OnFail::Quarantine {
            table
                .place_of("on_fail")
                .refuse("means nothing where everybody may send; set `verify`, `token` or `allow`");
        }
        if !said {
            table.place.warn(open_warning(preset));
        }
    }
    verification
}

fn open_warning(preset: &Preset) -> String {
    let why = if preset.name == "flyflow" {
        "Flyflow does not sign, so set token = \"${VARIABLE}\" and give Flyflow a URL that ends in it, \
         /in/<source>/<token>"
    } else {
        "set `verify` and `secrets`, `token` or `allow`"
    };
    format!("takes events from everybody who reaches the listener; {why}; or say verify = \"off\" if that is meant")
}

/// Whether replays within the tolerance would not be told: the window must be longer than what a signature is good for.
pub(super) fn check_window(table: &Table<'_>, verification: &Verification, dedup: &DedupRule, window: Duration) {
    let needed = verification.tolerance * 2;
    if signs_time(&verification.scheme) && *dedup != DedupRule::Off && window < needed {
        table.place_of("dedup").refuse(format!(
            "a window of less than {needed:?}, twice the tolerance, would let a signed request be used again"
        ));
    }
    let signs = matches!(verification.scheme, Scheme::Standard | Scheme::Hmac(_) | Scheme::Twilio);
    if *dedup == DedupRule::Message && !signs {
        table.place_of("dedup").refuse("\"message\" is told by what is signed, and this source verifies no signature");
    }
}

impl Asked {
    fn of(style: Style) -> Self {
        let reading = match style {
            Style::Standard => Reading::Standard,
            Style::Basic => Reading::UserAndPassword,
            _ => Reading::Text,
        };
        Self { scheme: style.scheme(), reading }
    }
}

fn asked(value: &Value<'_>) -> Option<Asked> {
    if value.is_text() {
        return value.parsed(Style::named).map(Asked::of);
    }
    let mut table = value.table()?;
    let place = table.place_of("scheme");
    let scheme = table.get("scheme").and_then(|value| value.text());
    let asked = match scheme.as_deref() {
        Some("hmac") => hmac(&mut table),
        Some("api_key") => {
            let header = required(&mut table, "header", scalar::header_name, "header = \"x-api-key\"");
            header.map(|name| (Scheme::Credential(Credential::Header(name)), Reading::Text))
        }
        _ => {
            place.refuse("must be \"hmac\" or \"api_key\"; what has a name is written as in verify = \"github\"");
            return None;
        }
    };
    table.done();
    asked.map(|(scheme, reading)| Asked { scheme, reading })
}

/// The recipe of a sender that is not known by name.
fn hmac(table: &mut Table<'_>) -> Option<(Scheme, Reading)> {
    let header = required(table, "header", scalar::header_name, "header = \"x-signature\"");
    let prefix = table.parsed("prefix", text).unwrap_or_default();
    let separator = table.parsed("separator", separator);
    let pair = table.parsed("pair", text);
    let template = match table.get("template") {
        Some(value) => value.parsed(|text| Template::new(text).map_err(|error| error.to_string())),
        None => Template::new("{body}").ok(),
    };
    let hash = table.parsed("hash", hash).unwrap_or(Hash::Sha256);
    let encoding = table.parsed("encoding", encoding).unwrap_or(Encoding::Hex);
    let unit = table.parsed("unit", unit);
    let time = table.parsed("timestamp", time_place);
    let id = table.parsed("id", scalar::header_name);
    let reading = table.parsed("secret_encoding", secret_encoding).unwrap_or(Reading::Text);
    let layout = match pair {
        Some(signature) => {
            if !prefix.is_empty() {
                table
                    .place_of("prefix")
                    .refuse("and `pair` exclude each other: what stands before `=` is the pair's name");
            }
            Layout::Pairs { separator: separator.unwrap_or(','), signature }
        }
        None => Layout::Plain { prefix, separator },
    };
    let template = template?;
    let place = table.place_of("timestamp");
    match (&time, template.has_time()) {
        (Some(_), false) => place
            .refuse("is not in the template, so it is not signed and proves nothing; remove it, or add {timestamp}"),
        (None, true) => {
            place.refuse("is missing; the template has {timestamp}: name its header, or with `pair:` its pair")
        }
        _ => {}
    }
    if time.is_none() && unit.is_some() {
        table.place_of("unit").refuse("is of `timestamp`, which is not set");
    }
    if matches!((&time, &layout), (Some(TimePlace::Pair(_)), Layout::Plain { .. })) {
        place.refuse("is in a pair, so the signature is, too: set `pair`");
    }
    match (&id, template.has_id()) {
        (Some(_), false) => {
            table.place_of("id").refuse("is not in the template, so it is not signed; use dedup = { header = \"…\" }")
        }
        (None, true) => table.place_of("id").refuse("is missing; the template has {id}: name its header"),
        _ => {}
    }
    let time = time.map(|place| Time { place, unit: unit.unwrap_or(Unit::Seconds) });
    Some((Scheme::Hmac(Recipe { header: header?, layout, template, hash, encoding, time, id }), reading))
}

fn required<T>(
    table: &mut Table<'_>,
    key: &'static str,
    parse: fn(&str) -> Result<T, String>,
    example: &str,
) -> Option<T> {
    match table.get(key) {
        Some(value) => value.parsed(parse),
        None => {
            table.place_of(key).refuse(format!("is missing; write {example}"));
            None
        }
    }
}

fn text(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if text.is_empty() || text.len() > TEXT_LEN_MAX || !plain {
        Err(format!("must be 1 to {TEXT_LEN_MAX} visible ASCII characters"))
    } else {
        Ok(text.to_owned())
    }
}

fn separator(text: &str) -> Result<char, String> {
    match text.as_bytes() {
        [byte] if byte.is_ascii_punctuation() || *byte == b' ' => Ok(char::from(*byte)),
        _ => Err("must be one character, like \",\" or \" \"".to_owned()),
    }
}

fn hash(text: &str) -> Result<Hash, String> {
    match text {
        "sha1" => Ok(Hash::Sha1),
        "sha256" => Ok(Hash::Sha256),
        "sha512" => Ok(Hash::Sha512),
        _ => Err("must be \"sha256\", \"sha512\" or \"sha1\"".to_owned()),
    }
}

fn encoding(text: &str) -> Result<Encoding, String> {
    match text {
        "hex" => Ok(Encoding::Hex),
        "base64" => Ok(Encoding::Base64),
        "base64url" => Ok(Encoding::Base64Url),
        _ => Err("must be \"hex\", \"base64\" or \"base64url\"".to_owned()),
    }
}

fn secret_encoding(text: &str) -> Result<Reading, String> {
    if text == "text" {
        return Ok(Reading::Text);
    }
    let encoded = encoding(text).map(Reading::Encoded);
    encoded.map_err(|_| "must be \"text\", \"hex\", \"base64\" or \"base64url\"".to_owned())
}

fn unit(text: &str) -> Result<Unit, String> {
    match text {
        "s" => Ok(Unit::Seconds),
        "ms" => Ok(Unit::Millis),
        _ => Err("must be \"s\" or \"ms\"".to_owned()),
    }
}

fn time_place(text: &str) -> Result<TimePlace, String> {
    match text.strip_prefix("pair:") {
        Some(name) => self::text(name).map(TimePlace::Pair),
        None => scalar::header_name(text).map(TimePlace::Header),
    }
}

fn secret(item: &Value<'_>, reading: Reading) -> Option<Secret> {
    item.secret_of(|text| {
        let parsed = match reading {
            Reading::Text => Secret::text(text),
            Reading::Standard => Secret::standard_check(text),
            Reading::Encoded(encoding) => Secret::encoded(text, encoding),
            Reading::UserAndPassword => match text.split_once(':') {
                Some((_, password)) if !password.is_empty() => Secret::text(text),
                _ => return Err("must be a user and a password, as in \"user:${PASSWORD}\"".to_owned()),
            },
        };
        parsed.map_err(|error| error.to_string())
    })
}

/// Whether a time is signed.
pub(super) fn signs_time(scheme: &Scheme) -> bool {
    match scheme {
        Scheme::Standard => true,
        Scheme::Hmac(recipe) => recipe.time.is_some(),
        _ => false,
    }
}

fn tolerance(table: &mut Table<'_>, scheme: &Scheme) -> Duration {
    let place = table.place_of("tolerance");
    let Some(tolerance) = table.parsed("tolerance", scalar::duration) else { return TOLERANCE };
    if !signs_time(scheme) {
        place.refuse("means nothing here: this source's sender signs no time; remove it");
    } else if !(Duration::from_secs(1)..=TOLERANCE_MAX).contains(&tolerance) {
        place.refuse("must be from 1s to 1h");
    }
    tolerance
}

/// One token, or several while one is being changed.
fn tokens(table: &mut Table<'_>) -> Vec<Secret> {
    let read = |value: &Value<'_>| {
        let items = if value.is_text() { Vec::new() } else { value.items(SECRETS_MAX)? };
        if items.is_empty() && !value.is_text() {
            value.place.refuse("lists no token; remove it, or write token = \"${VARIABLE}\"");
        }
        let one = value.is_text().then_some(value);
        Some(one.into_iter().chain(&items).filter_map(token).collect())
    };
    table.read("token", read).unwrap_or_default()
}

fn token(item: &Value<'_>) -> Option<Secret> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    item.secret_of(|text| {
        if TOKEN_LEN.contains(&text.len()) && text.bytes().all(plain) {
            Secret::text(text).map_err(|error| error.to_string())
        } else {
            Err("a token stands in a path and has 16 to 256 characters of a-z A-Z 0-9 - . _ ~; \
                 `openssl rand -hex 24` makes one"
                .to_owned())
        }
    })
}

/// `["192.0.2.0/24"]`, or `{ from = […], proxies = […] }`.
fn allowed(value: &Value<'_>) -> Option<Allowed> {
    let network = |item: &Value<'_>| {
        item.parsed(|text| text.parse().map_err(|error: crate::core::network::NetworkError| error.to_string()))
    };
    let networks = |value: &Value<'_>| -> Option<Vec<_>> {
        let items = value.items(NETWORKS_MAX)?;
        if items.is_empty() {
            value.place.refuse("lists no network; remove it, or write one like \"192.0.2.0/24\"");
        }
        Some(items.iter().filter_map(network).collect())
    };
    if !value.is_table() {
        return networks(value).map(|from| Allowed { from, proxies: Vec::new() });
    }
    let mut table = value.table()?;
    let from = match table.get("from") {
        Some(value) => networks(&value),
        None => {
            table.place_of("from").refuse("is missing; write from = [\"192.0.2.0/24\"]");
            None
        }
    };
    let proxies = table.read("proxies", networks).unwrap_or_default();
    table.done();
    Some(Allowed { from: from?, proxies })
}

fn public_url(table: &mut Table<'_>, scheme: &Scheme) -> Option<String> {
    let place = table.place_of("public_url");
    let given = table.get("public_url");
    let is_given = given.is_some();
    let url = given.and_then(|value| value.parsed(scalar::public_url));
    let is_signed = match scheme {
        Scheme::Twilio => true,
        Scheme::Hmac(recipe) => recipe.template.has_url(),
        _ => false,
    };
    match (&url, is_signed) {
        (Some(_), false) => place.refuse("means nothing here: this source's sender does not sign the URL; remove it"),
        (None, true) if !is_given => place.refuse(
            "is missing; the sender signs the URL that it calls: write what stands in it before /in/, \
             like public_url = \"https://hooks.example.com\"",
        ),
        _ => {}
    }
    url
}

/// The preset's, or what is asked for; Meta's comes with its token.
fn handshake(table: &mut Table<'_>, preset: &Preset) -> Option<Handshake> {
    let asked = table.parsed("handshake", asked_handshake).unwrap_or(preset.handshake);
    let place = table.place_of("verify_token");
    let token =
        table.read("verify_token", |value| value.secret_of(|text| Secret::text(text).map_err(|e| e.to_string())));
    match (asked, token) {
        (Asks::Meta, Some(token)) => return Some(Handshake::Meta(vec![token])),
        (Asks::Meta, None) => place
            .refuse("is missing or wrong; Meta asks with the token that you set there: verify_token = \"${VARIABLE}\""),
        (_, Some(_)) => place.refuse("is of handshake \"meta\"; what ends the path is `token`"),
        (_, None) => {}
    }
    match asked {
        Asks::Nothing | Asks::Meta => None,
        Asks::Slack => Some(Handshake::Slack),
        Asks::Zoom => Some(Handshake::Zoom),
        Asks::Microsoft => Some(Handshake::Microsoft),
    }
}

fn asked_handshake(text: &str) -> Result<Asks, String> {
    match text {
        "off" => Ok(Asks::Nothing),
        "slack" => Ok(Asks::Slack),
        "zoom" => Ok(Asks::Zoom),
        "meta" => Ok(Asks::Meta),
        "microsoft" => Ok(Asks::Microsoft),
        _ => Err("must be \"slack\", \"zoom\", \"meta\", \"microsoft\" or \"off\"".to_owned()),
    }
}

fn on_fail(text: &str) -> Result<OnFail, String> {
    match text {
        "reject" => Ok(OnFail::Reject),
        "quarantine" => Ok(OnFail::Quarantine),
        _ => Err("must be \"reject\" or \"quarantine\"".to_owned()),
    }
}
