//! A certificate in each way that clients write one. Spec: DPS-X509-26.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::certificate::{BadCertificate, Certificate};

/// Why a text is not a certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCertificate {
    /// Neither PEM nor Base64.
    #[error("is neither PEM nor Base64 of a certificate")]
    Text,
    /// PEM with no certificate, or with several.
    #[error("must hold one certificate, and holds {0}")]
    Count(usize),
    /// What is encoded is none.
    #[error("holds something else than one X.509 certificate: {0}")]
    Certificate(#[from] BadCertificate),
}

impl FromStr for Certificate {
    type Err = NoCertificate;

    /// Reads PEM, Base64 of DER, or Base64 of PEM.
    fn from_str(text: &str) -> Result<Self, NoCertificate> {
        if is_pem(text.as_bytes()) {
            return read_pem(text.as_bytes());
        }
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let decoded = STANDARD.decode(digits).map_err(|_| NoCertificate::Text)?;
        if is_pem(&decoded) { read_pem(&decoded) } else { Ok(Self::from_der(&decoded)?) }
    }
}

fn is_pem(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"-----BEGIN ")
}

fn read_pem(text: &[u8]) -> Result<Certificate, NoCertificate> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|_| NoCertificate::Text)?;
    match certificates.as_slice() {
        [certificate] => Ok(Certificate::from_der(certificate)?),
        certificates => Err(NoCertificate::Count(certificates.len())),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn der() -> Vec<u8> {
        let params = CertificateParams::new(Vec::new()).unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\r\n{}\r\n-----END {label}-----\r\n", STANDARD.encode(der))
    }

    /// DPS-X509-26
    #[test]
    fn a_certificate_is_read_in_each_spelling_of_official_clients() {
        let bytes = der();
        let one = pem("CERTIFICATE", &bytes);
        let der = STANDARD.encode(&bytes);
        for text in [&one, &one.replace('\r', ""), &der, &format!("{der}\n"), &STANDARD.encode(&one)] {
            assert_eq!(text.parse::<Certificate>().unwrap().der(), bytes, "{text}");
        }
    }

    /// DPS-X509-26, DPS-SERVICE-18
    #[test]
    fn what_is_no_certificate_is_named() {
        let bytes = der();
        let one = pem("CERTIFICATE", &bytes);
        let rows = [
            ("garbage".to_owned(), NoCertificate::Text),
            (String::new(), BadCertificate::Shape.into()),
            (one.replace("-----END", "-----AND"), NoCertificate::Text),
            (format!("{one}{one}"), NoCertificate::Count(2)),
            (pem("PRIVATE KEY", &bytes), NoCertificate::Count(0)),
            (STANDARD.encode(b"some text"), BadCertificate::Shape.into()),
            (STANDARD.encode(&bytes[..60]), BadCertificate::Shape.into()),
            (STANDARD.encode([&bytes[..], &[0]].concat()), BadCertificate::Trailing(1).into()),
        ];
        for (text, why) in rows {
            assert_eq!(text.parse::<Certificate>().unwrap_err(), why, "{text}");
        }
    }
}
