//! How a source knows its sender, as it holds, without the secrets.

use super::{REDACTED, Toml, duration, inline, list, text};
use crate::config::verify::{Style, signs_time};
use crate::core::network::Network;
use crate::core::secret::{Encoding, Hash, Secret};
use crate::core::verify::credential::Credential;
use crate::core::verify::handshake::Handshake;
use crate::core::verify::hmac::{Layout, Recipe, Time, TimePlace, Unit};
use crate::core::verify::network::Allowed;
use crate::core::verify::{OnFail, Scheme, Verification};

pub(super) fn write(toml: &mut Toml, verification: &Verification) {
    let Verification { allowed, tokens, scheme, secrets, tolerance, public_url, handshake, on_fail } = verification;
    toml.line("verify", written(scheme))
        .maybe("secrets", redacted(secrets))
        .maybe("tolerance", signs_time(scheme).then(|| duration(*tolerance)))
        .maybe("token", redacted(tokens))
        .maybe("allow", allowed.as_ref().map(networks))
        .maybe("public_url", public_url.as_ref().map(text));
    if let Some(handshake) = handshake {
        let (name, token) = match handshake {
            Handshake::Slack => ("slack", None),
            Handshake::Zoom => ("zoom", None),
            Handshake::Meta(_) => ("meta", Some(text(REDACTED))),
            Handshake::Microsoft => ("microsoft", None),
        };
        toml.line("handshake", text(name)).maybe("verify_token", token);
    }
    let on_fail = match on_fail {
        OnFail::Reject => "reject",
        OnFail::Quarantine => "quarantine",
    };
    toml.line("on_fail", text(on_fail));
}

fn redacted(secrets: &[Secret]) -> Option<String> {
    (!secrets.is_empty()).then(|| list(secrets.iter().map(|_| text(REDACTED))))
}

fn networks(allowed: &Allowed) -> String {
    let Allowed { from, proxies } = allowed;
    let networks = |networks: &[Network]| list(networks.iter().map(|network| text(network.to_string())));
    if proxies.is_empty() {
        networks(from)
    } else {
        inline(vec![("from", networks(from)), ("proxies", networks(proxies))])
    }
}

/// The scheme by its name, if it has one, or as it is.
fn written(scheme: &Scheme) -> String {
    if let Some(name) = Style::name_of(scheme) {
        return text(name);
    }
    match scheme {
        Scheme::Credential(Credential::Header(name)) => {
            inline(vec![("scheme", text("api_key")), ("header", text(name))])
        }
        Scheme::Hmac(recipe) => inline(by_hand(recipe)),
        // All others have a name.
        _ => text("off"),
    }
}

fn by_hand(recipe: &Recipe) -> Vec<(&'static str, String)> {
    let Recipe { header, layout, template, hash, encoding, time, id } = recipe;
    let mut lines = vec![("scheme", text("hmac")), ("header", text(header))];
    match layout {
        Layout::Plain { prefix, separator } => {
            lines.extend((!prefix.is_empty()).then(|| ("prefix", text(prefix))));
            lines.extend(separator.map(|separator| ("separator", text(separator.to_string()))));
        }
        Layout::Pairs { separator, signature } => {
            lines.extend([("pair", text(signature)), ("separator", text(separator.to_string()))]);
        }
    }
    let hash = match hash {
        Hash::Sha1 => "sha1",
        Hash::Sha256 => "sha256",
        Hash::Sha512 => "sha512",
    };
    let encoding = match encoding {
        Encoding::Hex => "hex",
        Encoding::Base64 => "base64",
        Encoding::Base64Url => "base64url",
    };
    lines.extend([("template", text(template.to_string())), ("hash", text(hash)), ("encoding", text(encoding))]);
    if let Some(Time { place, unit }) = time {
        let place = match place {
            TimePlace::Header(name) => name.clone(),
            TimePlace::Pair(name) => format!("pair:{name}"),
        };
        let unit = match unit {
            Unit::Seconds => "s",
            Unit::Millis => "ms",
        };
        lines.extend([("timestamp", text(place)), ("unit", text(unit))]);
    }
    lines.extend(id.as_ref().map(|name| ("id", text(name))));
    lines
}
