//! The condition of a write. Spec: DPS-SERVICE-7, DPS-SERVICE-8.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_proto::ids::ETag;
use hyper::HeaderMap;
use hyper::header::IF_MATCH;

/// What `If-Match` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// There is none.
    Absent,
    /// `*`: whatever is there.
    Any,
    /// Whatever is there, but there must be something; no header says so.
    Existing,
    /// One etag, without quotes around it.
    Tag(Box<str>),
}

impl IfMatch {
    /// Reads the header; every official client spells it in its own way.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let Some(header) = headers.get(IF_MATCH) else { return Self::Absent };
        // What is no text equals no etag, and must not pass for "no condition".
        let text = header.to_str().unwrap_or("?").trim();
        match unquoted(text) {
            "*" => Self::Any,
            "" => Self::Absent,
            tag => Self::Tag(tag.into()),
        }
    }

    /// As the member `etag` of an entry says it.
    pub(crate) fn tag(etag: &str) -> Self {
        Self::Tag(unquoted(etag).into())
    }

    /// Whether an entry of this version may be written.
    pub(crate) fn fits(&self, etag: &ETag) -> bool {
        match self {
            Self::Absent | Self::Any | Self::Existing => true,
            Self::Tag(tag) => {
                **tag == *etag.as_str()
                    || STANDARD.decode(etag.as_str()).is_ok_and(|text| {
                        std::str::from_utf8(&text).is_ok_and(|text| unquoted(text) == &**tag)
                    })
            }
        }
    }
}

fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn header(text: &[u8]) -> IfMatch {
        IfMatch::of(&HeaderMap::from_iter([(IF_MATCH, HeaderValue::from_bytes(text).unwrap())]))
    }

    /// DPS-SERVICE-8
    #[test]
    fn every_spelling_of_an_etag_fits_and_no_other_etag_does() {
        let etag: ETag = "IjAwMDBlOGMyLTAwMDAtMDYwMC0wMDAwLTYxOGVkODYxMDAwMCI=".parse().unwrap();
        for spelling in [
            etag.as_str(),
            &format!("\"{etag}\""),
            "\"0000e8c2-0000-0600-0000-618ed8610000\"",
            "0000e8c2-0000-0600-0000-618ed8610000",
        ] {
            assert!(header(spelling.as_bytes()).fits(&etag), "{spelling}");
        }
        for other in [&b"IjAwMDBlOGMyLTAwMDAtMDYwMC0wMDAwLTYxOGVkODYxMDAwMSI="[..], b"x", b"\"", b"\xff"] {
            assert!(!header(other).fits(&etag), "{other:?}");
        }
    }

    /// DPS-SERVICE-8
    #[test]
    fn a_star_is_one_in_quotes_too() {
        assert_eq!(header(b"*"), IfMatch::Any);
        assert_eq!(header(b"\"*\""), IfMatch::Any);
        assert_eq!(IfMatch::of(&HeaderMap::new()), IfMatch::Absent);
        assert_eq!(header(b""), IfMatch::Absent, "some clients send the header empty");
    }
}
