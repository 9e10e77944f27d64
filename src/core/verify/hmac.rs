//! A signature by recipe: an HMAC over a template, in a header. Most providers differ in nothing else.
//!
//! A [`Recipe`] says where signatures stand and how they are written, what is signed, and where the time and the
//! message's id are. Time and id count only because the template has them: the config refuses a recipe whose time is
//! not signed. All signatures of the header are tried with all secrets.

use subtle::ConstantTimeEq as _;

use super::{Denied, Headers, Proof, Request, SIGNATURES_MAX, Verification, digits, id, malformed, one};
use crate::core::secret::{Encoding, Found, Hash};

/// How one kind of sender signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// The header with the signatures (lower case).
    pub header: String,
    /// How the header is written.
    pub layout: Layout,
    /// What is signed.
    pub template: Template,
    /// What the HMAC is made with.
    pub hash: Hash,
    /// How signatures are written.
    pub encoding: Encoding,
    /// Where the time stands, if one is signed.
    pub time: Option<Time>,
    /// The header with the message's id (lower case), if that is signed.
    pub id: Option<String>,
}

/// How the header with the signatures is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// Signatures, each behind `prefix`; several are apart by `separator`.
    Plain {
        /// E.g. `sha256=`.
        prefix: String,
        /// `None`: there is one only.
        separator: Option<char>,
    },
    /// `name=value` pairs apart by `separator`, of which those named `signature` count.
    Pairs {
        /// E.g. `,`.
        separator: char,
        /// E.g. `v1`.
        signature: String,
    },
}

/// Where a signed time stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// Where.
    pub place: TimePlace,
    /// How it counts.
    pub unit: Unit,
}

/// Where a signed time is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TimePlace {
    /// In a header of its own (lower case).
    Header(String),
    /// In the pairs of the signatures' header, under this name.
    Pair(String),
}

/// What a time since 1970 counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Thousandths of them.
    Millis,
}

/// What is signed: texts, and what they stand between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Id,
    Time,
    Body,
    Url,
}

/// Why a text is no [`Template`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateError {
    /// A brace begins or ends none of the four.
    Unknown,
    /// The body is not in it exactly once.
    Body,
    /// Two of the four stand side by side, so that bytes could move from one to the other.
    Adjacent,
}

impl Template {
    /// Reads `{timestamp}.{body}` and its like; there are `{id}`, `{timestamp}`, `{body}` and `{url}`.
    pub fn new(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or(TemplateError::Unknown)?;
            let part = match name {
                "id" => Part::Id,
                "timestamp" => Part::Time,
                "body" => Part::Body,
                "url" => Part::Url,
                _ => return Err(TemplateError::Unknown),
            };
            push_text(&mut parts, before)?;
            parts.push(part);
            rest = behind;
        }
        push_text(&mut parts, rest)?;
        let bodies = parts.iter().filter(|part| **part == Part::Body).count();
        // A time that is near now has a fixed length, and no body begins as what may follow a path.
        let clear = [[Part::Body, Part::Time], [Part::Time, Part::Body], [Part::Url, Part::Body]];
        let has_text = |pair: &[Part]| pair.iter().any(|part| matches!(part, Part::Text(_)));
        let blurred = |pair: &[Part]| !has_text(pair) && !clear.iter().any(|clear| clear == pair);
        if bodies != 1 {
            Err(TemplateError::Body)
        } else if parts.windows(2).any(blurred) {
            Err(TemplateError::Adjacent)
        } else {
            Ok(Self(parts))
        }
    }

    /// Whether a time is signed.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.0.contains(&Part::Time)
    }

    /// Whether the message's id is signed.
    #[must_use]
    pub fn has_id(&self) -> bool {
        self.0.contains(&Part::Id)
    }

    /// Whether the URL is signed.
    #[must_use]
    pub fn has_url(&self) -> bool {
        self.0.contains(&Part::Url)
    }

    /// What an id must not have in it: the character it ends at.
    fn behind_id(&self) -> Option<u8> {
        let behind = self.0.iter().skip_while(|part| **part != Part::Id).nth(1);
        match behind {
            Some(Part::Text(text)) => text.bytes().next(),
            _ => None,
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), TemplateError> {
    if text.contains('}') {
        return Err(TemplateError::Unknown);
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
    Ok(())
}

/// What stands in the header with the signatures.
struct Shown<'a> {
    signatures: Vec<&'a [u8]>,
    /// In the pair that the recipe names, if it names one.
    time: Option<&'a [u8]>,
}

impl Recipe {
    pub(super) fn prove(
        &self,
        verification: &Verification,
        request: &Request<'_>,
        body: &[u8],
    ) -> Result<Proof, Denied> {
        let shown = self.shown(one(request.headers, &self.header)?)?;
        let (time_text, signed_ms) = self.time(&shown, request.headers)?;
        let id_text = self.id.as_ref().map(|name| one(request.headers, name)).transpose()?.unwrap_or_default();
        let id = match &self.id {
            None => None,
            Some(name) => {
                let id = id(id_text, self.template.behind_id());
                Some(id.ok_or_else(|| malformed(&format!("{name} header")))?.to_owned())
            }
        };
        let url = verification.public_url.as_ref().map(|before| format!("{before}{}", request.target));
        let part = |part| match part {
            &Part::Id => id_text,
            Part::Time => time_text,
            Part::Body => body,
            Part::Url => url.as_deref().unwrap_or_default().as_bytes(),
            Part::Text(text) => text.as_bytes(),
        };
        let parts: Vec<&[u8]> = self.template.0.iter().map(part).collect();
        let mut found = Found::none();
        for (index, secret) in verification.secrets.iter().enumerate() {
            let Some(mac) = secret.mac(self.hash, &parts) else { continue };
            for expected in self.encoding.texts(&mac) {
                shown.signatures.iter().for_each(|shown| found.note(index, expected.as_bytes().ct_eq(shown)));
            }
        }
        let secret = found.first().ok_or(Denied::Mismatch)?;
        if let Some(signed_ms) = signed_ms {
            verification.is_fresh(request.now, signed_ms)?;
        }
        Ok(Proof { secret: Some(secret), id, signed: Some(signed_ms) })
    }

    /// What stands in the signatures' header: at least one signature, and not too many.
    fn shown<'a>(&self, value: &'a [u8]) -> Result<Shown<'a>, Denied> {
        let bad = || malformed(&format!("{} header", self.header));
        let apart = |separator: Option<char>| {
            let at = move |byte: &u8| separator == Some(char::from(*byte));
            value.split(at).map(<[u8]>::trim_ascii).take(2 * SIGNATURES_MAX)
        };
        let mut times: Vec<&[u8]> = Vec::new();
        let signatures: Vec<&[u8]> = match &self.layout {
            Layout::Plain { prefix, separator } => {
                apart(*separator).filter_map(|item| item.strip_prefix(prefix.as_bytes())).collect()
            }
            Layout::Pairs { separator, signature } => {
                let pairs = apart(Some(*separator)).filter_map(|item| split_at(item, b'='));
                let (of_signature, others): (Vec<_>, Vec<_>) =
                    pairs.partition(|(name, _)| *name == signature.as_bytes());
                if let Some(Time { place: TimePlace::Pair(wanted), .. }) = &self.time {
                    let named = others.into_iter().filter(|(name, _)| *name == wanted.as_bytes());
                    times.extend(named.map(|(_, value)| value));
                }
                of_signature.into_iter().map(|(_, value)| value).collect()
            }
        };
        let too_many = signatures.len() > SIGNATURES_MAX || times.len() > 1;
        if signatures.is_empty() || too_many {
            return Err(bad());
        }
        Ok(Shown { signatures, time: times.first().copied() })
    }

    /// The signed time, as it is written and as it counts.
    fn time<'a>(&self, shown: &Shown<'a>, headers: &'a dyn Headers) -> Result<(&'a [u8], Option<u64>), Denied> {
        let Some(Time { place, unit }) = &self.time else { return Ok((b"", None)) };
        let (text, header) = match place {
            TimePlace::Header(name) => (one(headers, name)?, name),
            TimePlace::Pair(_) => {
                (shown.time.ok_or_else(|| malformed(&format!("{} header", self.header)))?, &self.header)
            }
        };
        let count = digits(text).ok_or_else(|| malformed(&format!("{header} header")))?;
        let millis = match unit {
            Unit::Seconds => count.saturating_mul(1000),
            Unit::Millis => count,
        };
        Ok((text, Some(millis)))
    }

    /// The id that the message says it has.
    pub(super) fn claimed_id(&self, headers: &dyn Headers) -> Option<String> {
        let value = one(headers, self.id.as_ref()?).ok()?;
        id(value, self.template.behind_id()).map(str::to_owned)
    }
}

fn split_at(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let mut halves = text.splitn(2, |byte| *byte == at);
    Some((halves.next()?, halves.next()?))
}

impl std::fmt::Display for Template {
    /// As [`Template::new`] reads it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|part| {
            f.write_str(match part {
                Part::Text(text) => text,
                Part::Id => "{id}",
                Part::Time => "{timestamp}",
                Part::Body => "{body}",
                Part::Url => "{url}",
            })
        })
    }
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "between braces there is {id}, {timestamp}, {body} or {url}",
            Self::Body => "must have {body} in it, once",
            Self::Adjacent => "needs a character between two of its parts, or it could not be told where one ends",
        })
    }
}
