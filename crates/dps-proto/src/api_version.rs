//! The api-version of a request. Spec: DPS-MQTT-19.

use std::fmt;
use std::str::FromStr;

/// A date-shaped version, `YYYY-MM-DD` with an optional suffix. Any date is accepted; features are gated by its date.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiVersion {
    text: Box<str>,
    date: [u8; 10],
}

/// The text is missing or not date-shaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the api-version is not of the form YYYY-MM-DD")]
pub struct BadApiVersion;

impl ApiVersion {
    /// Longest text that is looked at.
    const CHARACTERS_MAX: usize = 40;

    /// Whether a feature that came with `date` (`YYYY-MM-DD`) may be shown to this client.
    pub fn reaches(&self, date: &str) -> bool {
        self.date.as_slice() >= date.as_bytes()
    }

    /// The text as the client wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for ApiVersion {
    type Err = BadApiVersion;
    fn from_str(text: &str) -> Result<Self, BadApiVersion> {
        let bytes = text.as_bytes();
        if bytes.len() < 10 || bytes.len() > Self::CHARACTERS_MAX {
            return Err(BadApiVersion);
        }
        let (head, suffix) = bytes.split_at(10);
        let shaped = head.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
        let suffix_fits = suffix.is_empty()
            || (suffix[0] == b'-'
                && suffix.len() > 1
                && suffix[1..].iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-'));
        if !shaped || !suffix_fits {
            return Err(BadApiVersion);
        }
        let number = |range: std::ops::Range<usize>| {
            head[range].iter().fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'))
        };
        if !(1..=12).contains(&number(5..7)) || !(1..=31).contains(&number(8..10)) {
            return Err(BadApiVersion);
        }
        let mut date = [0; 10];
        date.copy_from_slice(head);
        Ok(Self { text: text.into(), date })
    }
}

impl fmt::Debug for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-MQTT-19
    #[test]
    fn any_date_is_a_version_and_nothing_else_is() {
        for good in ["2019-03-31", "2021-06-01", "2025-07-01-preview", "1999-12-31"] {
            assert!(good.parse::<ApiVersion>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "2019",
            "2019-13-01",
            "2019-00-10",
            "2019-01-32",
            "2019-03-31x",
            "2019-03-31-",
            "latest",
            "2019/03/31",
        ] {
            assert!(bad.parse::<ApiVersion>().is_err(), "{bad}");
        }
    }

    #[test]
    fn versions_gate_by_date() {
        let version: ApiVersion = "2019-03-31".parse().unwrap();
        assert!(version.reaches("2019-03-31") && !version.reaches("2019-04-15"));
    }
}
