//! Percent-encoding, as SAS tokens and topics use it (RFC 3986 section 2.1).

/// Decodes `%XX` in either hex case; every other byte, `+` included, stands for itself.
///
/// `None` where a `%` is not followed by two hex digits or the result is not UTF-8.
pub fn decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let (high, low) = (hex_value(*bytes.get(at + 1)?)?, hex_value(*bytes.get(at + 2)?)?);
            decoded.push(high << 4 | low);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

/// Encodes everything but RFC 3986's unreserved characters, with upper-case hex.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn hex_value(digit: u8) -> Option<u8> {
    // Unwrap-free: to_digit(16) is below 16 and fits.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_takes_either_hex_case_and_leaves_plus_alone() {
        assert_eq!(decode("a%2Fb%2fc+d").as_deref(), Some("a/b/c+d"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn encoding_then_decoding_gives_the_text_back() {
        let text = "0ne/registrations/ä:+ %";
        assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        assert_eq!(encode("a/b:c"), "a%2Fb%3Ac");
    }
}
