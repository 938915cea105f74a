//! Whether a text of an enrollment is a certificate, in each way that clients write one. Spec: DPS-SERVICE-18.
//!
//! By its shape alone: whom it admits is decided where a device presents one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Why a text is not a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoCertificate {
    /// Neither PEM nor Base64.
    #[error("is neither PEM nor Base64 of a certificate")]
    Text,
    /// PEM with no certificate, or with several.
    #[error("must hold one certificate, and holds {0}")]
    Count(usize),
    /// What is encoded is no ASN.1 SEQUENCE of its own length.
    #[error("holds something else than an X.509 certificate")]
    Shape,
}

/// Checks PEM, Base64 of DER, or Base64 of PEM.
pub(super) fn check(text: &str) -> Result<(), NoCertificate> {
    if is_pem(text.as_bytes()) {
        return check_pem(text.as_bytes());
    }
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let decoded = STANDARD.decode(digits).map_err(|_| NoCertificate::Text)?;
    if is_pem(&decoded) { check_pem(&decoded) } else { check_der(&decoded) }
}

fn is_pem(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"-----BEGIN ")
}

fn check_pem(text: &[u8]) -> Result<(), NoCertificate> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|_| NoCertificate::Text)?;
    match certificates.as_slice() {
        [certificate] => check_der(certificate),
        certificates => Err(NoCertificate::Count(certificates.len())),
    }
}

/// A certificate is a SEQUENCE that begins with another, the part that is signed.
fn check_der(der: &[u8]) -> Result<(), NoCertificate> {
    match sequence(der) {
        Some((content, [])) if sequence(content).is_some() => Ok(()),
        _ => Err(NoCertificate::Shape),
    }
}

/// The content of the SEQUENCE at the beginning, and what stands behind it.
fn sequence(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match der {
        [0x30, length @ ..=0x7f, rest @ ..] => (usize::from(*length), rest),
        [0x30, 0x81, length, rest @ ..] => (usize::from(*length), rest),
        [0x30, 0x82, high, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DER: &[u8] = &[0x30, 5, 0x30, 3, 1, 2, 3];

    fn pem(label: &str) -> String {
        format!("-----BEGIN {label}-----\r\n{}\r\n-----END {label}-----\r\n", STANDARD.encode(DER))
    }

    /// DPS-SERVICE-18
    #[test]
    fn a_certificate_is_read_in_each_spelling_of_official_clients() {
        let one = pem("CERTIFICATE");
        let der = STANDARD.encode(DER);
        for text in [&one, &one.replace('\r', ""), &der, &format!("{der}\n"), &STANDARD.encode(&one)] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        let long: Vec<u8> = [&[0x30, 0x82, 1, 4, 0x30, 0x82, 1, 0][..], &[0; 256]].concat();
        assert_eq!(check(&STANDARD.encode(long)), Ok(()));
    }

    /// DPS-SERVICE-18
    #[test]
    fn what_is_no_certificate_is_named() {
        let one = pem("CERTIFICATE");
        let rows = [
            ("garbage".to_owned(), NoCertificate::Text),
            (String::new(), NoCertificate::Shape),
            (one.replace("-----END", "-----AND"), NoCertificate::Text),
            (format!("{one}{one}"), NoCertificate::Count(2)),
            (pem("PRIVATE KEY"), NoCertificate::Count(0)),
            (STANDARD.encode(b"some text"), NoCertificate::Shape),
            (STANDARD.encode(&DER[..6]), NoCertificate::Shape),
            (STANDARD.encode([DER, &[0]].concat()), NoCertificate::Shape),
            (STANDARD.encode([0x30, 0x82, 0xff]), NoCertificate::Shape),
        ];
        for (text, why) in rows {
            assert_eq!(check(&text), Err(why), "{text}");
        }
    }
}
