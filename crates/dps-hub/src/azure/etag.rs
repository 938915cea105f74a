//! The version of an identity or a twin. Spec: DPS-HUB-14.

use std::fmt;
use std::str::FromStr;

use super::refusal::HubError;
use crate::outbound::HeaderValue;

/// Longest version that is taken, in bytes.
const BYTES_MAX: usize = 128;

/// The version of an identity or a twin, as its hub told it. It may be kept as text. Never `*`: nothing is changed that was not
/// read. Spec: DPS-HUB-14.
#[derive(Clone, PartialEq, Eq)]
pub struct HubETag(Box<str>);

/// A text that is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an etag has 1 to {BYTES_MAX} visible ASCII characters, no quotes within, and is not *")]
pub struct BadHubETag;

impl HubETag {
    /// The text, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What `If-Match` says.
    pub(super) fn header(&self) -> Result<HeaderValue, HubError> {
        // Visible ASCII always is one.
        HeaderValue::try_from(format!("\"{}\"", self.0))
            .map_err(|_| HubError::Malformed(BadHubETag.to_string()))
    }
}

impl FromStr for HubETag {
    type Err = BadHubETag;

    /// With or without quotes around it.
    fn from_str(text: &str) -> Result<Self, BadHubETag> {
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        let is_form =
            (1..=BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"');
        if is_form && text != "*" { Ok(Self(text.into())) } else { Err(BadHubETag) }
    }
}

impl fmt::Debug for HubETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-HUB-14
    #[test]
    fn a_version_is_sent_in_quotes_and_is_never_any_version() {
        for text in ["MTIz", "\"MTIz\""] {
            let etag: HubETag = text.parse().unwrap();
            assert_eq!((etag.as_str(), etag.header().unwrap().to_str().unwrap()), ("MTIz", "\"MTIz\""));
        }
        for bad in ["", "*", "\"*\"", "\"\"", "a\"b", "a b", "a\r\nb", "ä", &"x".repeat(129)] {
            assert_eq!(bad.parse::<HubETag>(), Err(BadHubETag), "{bad:?}");
        }
    }
}
