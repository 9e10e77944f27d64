//! Forms: `a=1&b=2`, as bodies and as the query of a URL, with `+` and `%41` resolved.
//!
//! Read as the URL standard reads them (application/x-www-form-urlencoded): nothing is an error, a broken escape
//! stands for itself, and names and values are bytes, for nobody promises UTF-8.

/// Most pairs read; what is behind them is not seen.
pub const PAIRS_MAX: usize = 4096;

/// The pairs of `text`, in order.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> + '_ {
    let parts = text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()).take(PAIRS_MAX);
    parts.map(|part| {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let mut half = || decoded(halves.next().unwrap_or_default());
        (half(), half())
    })
}

/// The value of the first pair of that name.
#[must_use]
pub fn value(text: &[u8], name: &str) -> Option<Vec<u8>> {
    pairs(text).find(|(other, _)| other == name.as_bytes()).map(|(_, value)| value)
}

/// Whether a content type is that of a form; what follows a `;` does not matter.
pub(crate) fn is_type(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// How many pairs there are, up to one more than [`PAIRS_MAX`].
pub(crate) fn count(text: &[u8]) -> usize {
    text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()).take(PAIRS_MAX + 1).count()
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = if *first == b'%' { behind.split_first_chunk::<2>() } else { None };
        let escaped = escaped.and_then(|(digits, behind)| Some((byte(*digits)?, behind)));
        let plain = if *first == b'+' { b' ' } else { *first };
        let (byte, behind) = escaped.unwrap_or((plain, behind));
        out.push(byte);
        rest = behind;
    }
    out
}

fn byte([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_the_url_standard_says() {
        for (text, expected) in [
            ("", &[][..]),
            ("&&", &[]),
            ("a=1&b=2", &[("a", "1"), ("b", "2")]),
            ("a", &[("a", "")]),
            ("=x", &[("", "x")]),
            ("a=b=c", &[("a", "b=c")]),
            ("a+b=c+d%20e", &[("a b", "c d e")]),
            ("a=%C3%A9%2b", &[("a", "é+")]),
            ("a=%&b=%4&c=%zz&d=%4G", &[("a", "%"), ("b", "%4"), ("c", "%zz"), ("d", "%4G")]),
            ("a=1&a=2", &[("a", "1"), ("a", "2")]),
        ] {
            let found: Vec<(Vec<u8>, Vec<u8>)> = pairs(text.as_bytes()).collect();
            let bytes = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
            assert_eq!(found, expected.iter().map(bytes).collect::<Vec<_>>(), "{text}");
        }
        assert_eq!(value(b"a=1&b=%ff", "b"), Some(vec![0xff]));
        assert_eq!(value(b"a=1", "b"), None);
        assert_eq!(count(&b"a=1&".repeat(PAIRS_MAX + 5)), PAIRS_MAX + 1);
    }
}
