//! A failure group: failed attempts that look alike, so that people read one line instead of a million.
//!
//! A group is an endpoint, what came of the attempt (the failure's class, or the answer's status) and a
//! fingerprint of the answer's body. Bodies of one cause differ in what varies: request ids, times, counts,
//! addresses. [`normalise`] takes that out, so that the rest is equal. Absent: any knowledge of a format;
//! HTML, JSON, a stack trace and noise are all words with something between them.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

use crate::core::attempt::{Attempt, Outcome, Reply};
use crate::core::event::tag;
use crate::core::name::Name;

/// How much of a normalised body is compared, in bytes.
pub const NORMAL_MAX_BYTES: usize = 1024;
/// What stands where something varies.
const VARIES: u8 = b'#';
/// A word of hexadecimal digits only is no word from this length on.
const HEX_LEN_MIN: usize = 8;
/// Quoted texts of these lengths with a digit and without a space are ids.
const QUOTED_LENS: std::ops::RangeInclusive<usize> = 8..=128;
/// What stands before an id in JSON: the end of its name, and the colon.
const ID_NAMES: [&[u8]; 5] = [b"\"id\":", b"_id\":", b"-id\":", b"Id\":", b"ID\":"];
/// Lengths of a UUID's parts.
const UUID_PARTS: [usize; 5] = [8, 4, 4, 4, 12];
/// Words that only say when.
const TIME_WORDS: [&[u8]; 21] = [
    b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun", b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul",
    b"aug", b"sep", b"oct", b"nov", b"dec", b"am", b"pm",
];

/// A group of failed attempts that look alike: `flg_` and 16 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FailureGroup(u64);

/// Why a text is not a [`FailureGroup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureGroupError;

impl FailureGroup {
    /// The group with this number; the journal's codec uses it.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The group's number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The group of an attempt to `endpoint`; `None` if it did not fail.
    ///
    /// Replays remember groups: a change of how one is made makes their filters fit nothing.
    #[must_use]
    pub fn of(endpoint: &Name, attempt: &Attempt) -> Option<Self> {
        if attempt.outcome == Outcome::Delivered {
            return None;
        }
        let endpoint = endpoint.as_str().as_bytes();
        Some(Self(match &attempt.reply {
            Reply::Failure(failure) => tag(&[b"failure", endpoint, failure.class.as_str().as_bytes()]),
            Reply::Answer(answer) => {
                tag(&[b"answer", endpoint, &answer.status.to_be_bytes(), &normalise(&answer.body)])
            }
        }))
    }
}

impl fmt::Display for FailureGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flg_{:016x}", self.0)
    }
}

impl FromStr for FailureGroup {
    type Err = FailureGroupError;

    fn from_str(text: &str) -> Result<Self, FailureGroupError> {
        let digits = text.strip_prefix("flg_").filter(|digits| digits.len() == 16).ok_or(FailureGroupError)?;
        let plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let canonical = digits.bytes().all(plain);
        u64::from_str_radix(digits, 16).ok().filter(|_| canonical).map(Self).ok_or(FailureGroupError)
    }
}

impl fmt::Display for FailureGroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a failure group: flg_ and 16 hexadecimal digits")
    }
}

impl std::error::Error for FailureGroupError {}

/// The text without what varies, at most [`NORMAL_MAX_BYTES`] of it, never cut inside a word.
///
/// Numbers, UUIDs, long hexadecimal words, words in which letters and digits take turns, quoted ids and the
/// names of days and months become `#`; `#`s with one sign between them are one (a time, an address, a
/// version); white space is one space. Takes any bytes. What is normal stays as it is.
#[must_use]
pub fn normalise(text: &[u8]) -> Vec<u8> {
    let mut normal = Normal(Vec::with_capacity(text.len().min(NORMAL_MAX_BYTES)));
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let taken = if is_word(first) {
            normal.add_words(rest)
        } else if first.is_ascii_whitespace() {
            normal.add_space(rest)
        } else {
            normal.add_sign(rest)
        };
        let Some(taken) = taken else { break };
        rest = rest.get(taken..).unwrap_or_default();
    }
    if normal.0.last() == Some(&b' ') {
        normal.0.pop();
    }
    normal.0
}

/// Whether a byte belongs to a word: a letter of any script, or a digit.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

fn run(text: &[u8], fits: impl Fn(u8) -> bool) -> &[u8] {
    let len = text.iter().take_while(|byte| fits(**byte)).count();
    text.get(..len).unwrap_or_default()
}

/// The text so far. What is added says how many bytes it took, or `None` if there is no room for it.
struct Normal(Vec<u8>);

impl Normal {
    fn push(&mut self, bytes: &[u8]) -> Option<()> {
        let has_room = self.0.len() + bytes.len() <= NORMAL_MAX_BYTES;
        has_room.then(|| self.0.extend_from_slice(bytes))
    }

    /// Adds a `#`, unless there is one that it is part of.
    fn vary(&mut self) -> Option<()> {
        match self.0.as_slice() {
            [.., VARIES] => Some(()),
            [.., VARIES, b'-' | b':' | b'.' | b'/' | b'+' | b',' | b'_'] => {
                self.0.pop();
                Some(())
            }
            _ => self.push(&[VARIES]),
        }
    }

    fn add_space(&mut self, text: &[u8]) -> Option<usize> {
        if !matches!(self.0.last(), None | Some(b' ')) {
            self.push(b" ")?;
        }
        Some(run(text, |byte| byte.is_ascii_whitespace()).len())
    }

    fn add_sign(&mut self, text: &[u8]) -> Option<usize> {
        let (&sign, behind) = text.split_first()?;
        let is_named = ID_NAMES.iter().any(|name| self.0.trim_ascii_end().ends_with(name));
        match sign {
            VARIES => self.vary()?,
            _ => self.push(&[sign])?,
        }
        if sign != b'"' && sign != b'\'' {
            return Some(1);
        }
        let quoted = run(behind, |byte| byte != sign && byte.is_ascii_graphic());
        let is_closed = behind.get(quoted.len()) == Some(&sign);
        let looks_like_one = QUOTED_LENS.contains(&quoted.len()) && quoted.iter().any(u8::is_ascii_digit);
        let is_id = looks_like_one || (!quoted.is_empty() && is_named);
        if !is_closed || !is_id {
            return Some(1);
        }
        self.vary()?;
        self.push(&[sign])?;
        Some(quoted.len() + 2)
    }

    /// Adds a UUID or a word.
    fn add_words(&mut self, text: &[u8]) -> Option<usize> {
        if let Some(len) = uuid_len(text) {
            self.vary()?;
            return Some(len);
        }
        let word = run(text, is_word);
        let is_hex = word.len() >= HEX_LEN_MIN && word.iter().all(u8::is_ascii_hexdigit);
        let parts: Vec<&[u8]> = word.chunk_by(|one, next| one.is_ascii_digit() == next.is_ascii_digit()).collect();
        if is_hex || parts.len() > 2 {
            self.vary()?;
            return Some(word.len());
        }
        for part in parts {
            let is_time = TIME_WORDS.iter().any(|word| part.eq_ignore_ascii_case(word));
            if is_time || part.first().is_some_and(u8::is_ascii_digit) {
                self.vary()?;
            } else {
                self.push(part)?;
            }
        }
        Some(word.len())
    }
}

/// The length of the UUID that the text begins with.
fn uuid_len(text: &[u8]) -> Option<usize> {
    let mut len = 0;
    for (index, part_len) in UUID_PARTS.into_iter().enumerate() {
        if index > 0 {
            (text.get(len) == Some(&b'-')).then_some(())?;
            len += 1;
        }
        let part = run(text.get(len..)?, is_word);
        (part.len() == part_len && part.iter().all(u8::is_ascii_hexdigit)).then_some(())?;
        len += part_len;
    }
    Some(len)
}

/// The beginning of a body as one line of at most `chars_max` characters, for people: bytes that are no text
/// are `\u{fffd}`, and so is nothing else.
#[must_use]
pub fn excerpt(body: &[u8], chars_max: usize) -> String {
    let mut line = String::new();
    let text = String::from_utf8_lossy(body);
    let mut words = text.split_whitespace();
    let mut left = chars_max;
    while left > 0
        && let Some(word) = words.next()
    {
        if !line.is_empty() {
            line.push(' ');
            left -= 1;
        }
        let taken: String = word.chars().take(left).collect();
        left -= taken.chars().count();
        // Writing to a String cannot fail.
        let _written = line.write_str(&taken).is_ok();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::attempt::{Answer, Failure, FailureClass};
    use crate::core::timestamp::Timestamp;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn normal(text: &str) -> String {
        String::from_utf8(normalise(text.as_bytes())).unwrap()
    }

    #[test]
    fn what_varies_is_taken_out_and_the_rest_stays() {
        let table = [
            ("", ""),
            ("  connection \r\n\t refused ", "connection refused"),
            ("timeout after 5003 ms", "timeout after # ms"),
            ("line 12ms", "line #ms"),
            ("id 0190a5d2-7c3e-7b11-9c2f-0a1b2c3d4e5f gone", "id # gone"),
            ("id abcdefab-cdef-abcd-efab-cdefabcdefab", "id #"),
            ("at 2026-11-25T02:31:41Z", "at #Z"),
            ("at 2026-11-25T02:31:41.123Z", "at #Z"),
            ("Wed, 25 Nov 2026 02:31:41 GMT", "#, # # # # GMT"),
            ("commit deadbeefcafe", "commit #"),
            ("a deadbee and a facade", "a deadbee and a facade"),
            ("trace a1B2c3 of 4bf92f3577b34da6", "trace # of #"),
            ("10.0.0.12:8080 and 10.0.3.4:80", "# and #"),
            ("nginx/1.18.0", "nginx/#"),
            (r#"{"request_id":"req-8f3aXq","code":42}"#, r##"{"request_id":"#","code":#}"##),
            (r#"{"request_id": "req-abc","valid":"abc"}"#, r##"{"request_id": "#","valid":"abc"}"##),
            (r#"{"id":"a","traceId":"b-c","why":""}"#, r##"{"id":"#","traceId":"#","why":""}"##),
            (r#"{"name":"bob","why":"no such user 17"}"#, r##"{"name":"bob","why":"no such user #"}"##),
            ("größe 7 überschritten", "größe # überschritten"),
            ("E1001", "E#"),
        ];
        for (text, expected) in table {
            assert_eq!(normal(text), expected, "{text}");
        }
    }

    #[test]
    fn bodies_of_one_cause_are_alike_and_of_two_causes_are_not() {
        let nginx = |version: &str| {
            format!(
                "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad \
                 Gateway</h1></center>\r\n<hr><center>nginx/{version}</center>\r\n</body>\r\n</html>\r\n"
            )
        };
        let problem = |id: &str, at: &str, detail: &str| {
            format!(
                r#"{{"type":"about:blank","title":"Internal Server Error","status":500,"detail":"{detail}","instance":"/calls/{id}","traceId":"00-{id}-01","timestamp":"{at}"}}"#
            )
        };
        let trace = |user: u32, line: u32, address: &str| {
            format!(
                "java.lang.IllegalStateException: no tenant for user {user}\n\tat \
                 com.example.crm.Calls.store(Calls.java:{line})\n\tat \
                 com.example.crm.Handler$$Lambda${address}.apply(Unknown Source)\n"
            )
        };
        let python = |address: &str, seconds: &str| {
            format!(
                "Traceback (most recent call last):\n  File \"/app/crm.py\", line 88, in handle\n    \
                 db.save(call)\npsycopg2.OperationalError: timeout after {seconds}s on <Connection at 0x{address}>"
            )
        };
        let alike = [
            (nginx("1.18.0"), nginx("1.25.3")),
            (
                problem("4bf92f3577b34da6a3ce929d0e0e4736", "2026-11-25T02:31:41.5Z", "the store is down"),
                problem("00f067aa0ba902b7aabbccddeeff0011", "2026-12-01T22:01:00Z", "the store is down"),
            ),
            (trace(17, 88, "0x0000000800c03000"), trace(90_211, 92, "0x0000000800c4a840")),
            (python("7f3c1a2b4d50", "5.0"), python("7f3c1a2b9e10", "30")),
        ];
        for (one, other) in &alike {
            assert_eq!(normal(one), normal(other));
        }
        for (index, (one, _)) in alike.iter().enumerate() {
            for (other, _) in alike.iter().skip(index + 1) {
                assert_ne!(normal(one), normal(other));
            }
        }
        assert_ne!(
            normal(&problem("00f067aa0ba902b7", "2026-12-01T22:01:00Z", "the store is down")),
            normal(&problem("00f067aa0ba902b7", "2026-12-01T22:01:00Z", "no such tenant"))
        );
    }

    #[test]
    fn where_a_body_goes_on_after_what_is_compared_makes_no_difference() {
        let long = |id: &str, end: &str| format!("request {id} {} {end}", "failed ".repeat(400));
        assert_eq!(normal(&long("1", "x")), normal(&long("123-456-789-101112", "y")));
    }

    fn attempt(outcome: Outcome, reply: Reply) -> Attempt {
        let started_at = Timestamp::from_millis(1);
        Attempt { number: 1, started_at, took_ms: 1, reply, outcome, probe: false, out_of_order: false }
    }

    fn answer(status: u16, body: &'static str) -> Reply {
        let body = Bytes::from_static(body.as_bytes());
        Reply::Answer(Answer { status, headers: vec![], body, body_cut: false, retry_after: None })
    }

    fn refused(class: FailureClass, detail: &str) -> Reply {
        Reply::Failure(Failure { class, detail: detail.to_owned() })
    }

    #[test]
    fn a_group_is_an_endpoint_a_class_or_status_and_a_body() {
        let of = |endpoint: &str, reply| {
            FailureGroup::of(&Name::new(endpoint).unwrap(), &attempt(Outcome::Retryable, reply)).unwrap()
        };
        let group = of("crm", answer(500, "no tenant 1"));
        assert_eq!(group, of("crm", answer(500, "no tenant 2")));
        assert_ne!(group, of("bill", answer(500, "no tenant 1")));
        assert_ne!(group, of("crm", answer(502, "no tenant 1")));
        assert_ne!(group, of("crm", answer(500, "no table 1")));
        let refusal = of("crm", refused(FailureClass::Refused, "a"));
        assert_eq!(refusal, of("crm", refused(FailureClass::Refused, "b")));
        assert_ne!(refusal, of("crm", refused(FailureClass::Dns, "a")));
        let delivered = attempt(Outcome::Delivered, answer(200, "ok"));
        assert_eq!(FailureGroup::of(&Name::new("crm").unwrap(), &delivered), None);
    }

    #[test]
    fn a_group_is_written_and_read() {
        for number in [0, 7, u64::MAX] {
            let group = FailureGroup::from_u64(number);
            assert_eq!(group.to_string().parse(), Ok(group));
        }
        for bad in ["", "flg_", "flg_00", "flg_000000000000000G", "flg_00000000000000AA", "evt_0000000000000000"] {
            assert_eq!(bad.parse::<FailureGroup>(), Err(FailureGroupError), "{bad}");
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt(b"a\n b\t\xff", 9), "a b \u{fffd}");
        assert_eq!(excerpt(b"abc def", 3), "abc");
        assert_eq!(excerpt(b"abc def", 5), "abc d");
        assert_eq!(excerpt(b"", 5), "");
    }

    /// Noise in which the interesting signs are frequent.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let signs = b"# -:.\"'aFx09Mar\n\xc3_id\":";
        let likely = proptest::sample::select(signs.as_slice());
        proptest::collection::vec(prop_oneof![4 => likely, 1 => any::<u8>()], 0..3000)
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_normal_form_that_stays(text in noise()) {
            let once = normalise(&text);
            prop_assert!(once.len() <= NORMAL_MAX_BYTES);
            prop_assert!(!once.iter().any(u8::is_ascii_digit));
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn numbers_make_no_difference(one in any::<u64>(), other in any::<u64>()) {
            let body = |number: u64| format!("call {number} not found (try {number}s, host h-{number}.example)");
            prop_assert_eq!(normalise(body(one).as_bytes()), normalise(body(other).as_bytes()));
        }
    }
}
