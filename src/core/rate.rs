//! The rate: how many deliveries an endpoint takes in a span of time.

use std::time::Duration;

/// At most `count` attempts begin per `per`, and `burst` of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In which span.
    pub per: Duration,
    /// How many at once after a silence.
    pub burst: u32,
}

impl Rate {
    /// Reads a rate like `10/s`, `600/min` or `5000/h`: how many, and in which span.
    ///
    /// The error says what to write instead, and never repeats what was written.
    pub fn parse(text: &str) -> Result<(u32, Duration), String> {
        let shape = || "not a rate; write one like \"10/s\", \"600/min\" or \"5000/h\"".to_owned();
        let (count, unit) = text.split_once('/').ok_or_else(shape)?;
        let (count, unit) = (count.trim(), unit.trim());
        let per = match unit {
            "s" | "sec" => Duration::from_secs(1),
            "m" | "min" => Duration::from_secs(60),
            "h" | "hour" => Duration::from_secs(3600),
            _ => return Err(shape()),
        };
        // The standard parser would take a sign.
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(shape());
        }
        match count.parse() {
            Ok(0) => Err("a rate must be at least 1, or nothing would ever be sent".to_owned()),
            Ok(count) => Ok((count, per)),
            Err(_) => Err(format!("a rate must be at most {}", u32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_count_in_a_second_a_minute_or_an_hour() {
        for (text, count, secs) in [
            ("10/s", 10, 1),
            ("1/sec", 1, 1),
            ("600/min", 600, 60),
            ("600/m", 600, 60),
            ("5000/h", 5000, 3600),
            ("007 / hour ", 7, 3600),
            ("4294967295/s", u32::MAX, 1),
        ] {
            assert_eq!(Rate::parse(text), Ok((count, Duration::from_secs(secs))), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_with_what_to_write() {
        for bad in ["", "10", "/", "/s", "10/", "10/d", "10/S", "+10/s", "-1/s", "1.5/s", "1e3/s", "1/s/s", "١/s", "é"]
        {
            let message = Rate::parse(bad).unwrap_err();
            assert!(message.contains("\"600/min\""), "{bad}: {message}");
        }
        assert!(Rate::parse("0/s").unwrap_err().contains("at least 1"));
        for large in ["4294967296/s", "99999999999999999999999/h"] {
            assert!(Rate::parse(large).unwrap_err().contains("at most 4294967295"), "{large}");
        }
    }
}
