//! What a device shows of itself in the TLS handshake: any certificates, provided it has the key of its own.
//! Spec: DPS-X509-1, DPS-X509-2.
//!
//! Whom they admit is decided when the device registers. rustls's own check of the handshake's signature refuses X.509 v1 and
//! unknown critical extensions; the one here reads of a certificate its key and nothing else.

use std::sync::Arc;

use dps_core::x509::PresentedChain;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerMisbehaved,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;
use webpki::RawPublicKeyEntity;
use x509_parser::parse_x509_certificate;

/// Most bytes of all certificates of one device. Spec: DPS-X509-2.
pub const CERTIFICATES_BYTES_MAX: usize = 32 * 1_024;

/// A connection whose device may have shown certificates.
pub trait DeviceStream: AsyncRead + AsyncWrite + Unpin {
    /// In the order in which they came, the device's own first; it has proved that it has the key of that. Empty where there
    /// are none.
    fn certificates(&self) -> &[CertificateDer<'static>];

    /// The device has proved itself: what it sends is no longer counted as that of a stranger.
    fn attested(&mut self) {}
}

impl<S: AsyncRead + AsyncWrite + Unpin> DeviceStream for TlsStream<S> {
    fn certificates(&self) -> &[CertificateDer<'static>] {
        self.get_ref().1.peer_certificates().unwrap_or_default()
    }
}

impl<S: DeviceStream + ?Sized> DeviceStream for Box<S> {
    fn certificates(&self) -> &[CertificateDer<'static>] {
        (**self).certificates()
    }

    fn attested(&mut self) {
        (**self).attested();
    }
}

/// Why a handshake with certificates is not finished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificatesRefused {
    /// Too many.
    #[error("the device sent {0} certificates, more than {max}", max = PresentedChain::CERTIFICATES_MAX)]
    TooMany(usize),
    /// Too long.
    #[error("the device sent certificates of {0} bytes together, more than {CERTIFICATES_BYTES_MAX}")]
    TooLong(usize),
    /// Not even its key can be read.
    #[error("the device's certificate is not an X.509 certificate in DER, or its key cannot be read")]
    Unreadable,
    /// The key is of a kind that signs nothing here.
    #[error(
        "the device's key is of a kind that is not accepted in a handshake with {0:?}: RSA below 2,048 bits, for one"
    )]
    Key(SignatureScheme),
    /// The device has another key than its certificate says.
    #[error(
        "the device does not have the key of its certificate: the signature of the handshake is not of that key"
    )]
    OtherKey,
}

impl From<CertificatesRefused> for Error {
    fn from(why: CertificatesRefused) -> Self {
        match why {
            // The alert is the one for a wrong signature.
            CertificatesRefused::OtherKey => CertificateError::BadSignature.into(),
            why => CertificateError::Other(OtherError(Arc::new(why))).into(),
        }
    }
}

/// Asks for a certificate, requires none, and takes any whose key is proved.
#[derive(Debug)]
pub(crate) struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyCertificate {
    pub(crate) fn new(provider: &CryptoProvider) -> Arc<Self> {
        Arc::new(Self { algorithms: provider.signature_verification_algorithms })
    }

    /// Spec: DPS-X509-1. `all_of_scheme`: below TLS 1.3 a scheme does not name the curve of an ECDSA key.
    fn prove(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        all_of_scheme: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (_, read) = parse_x509_certificate(certificate).map_err(|_| CertificatesRefused::Unreadable)?;
        let spki = SubjectPublicKeyInfoDer::from(read.tbs_certificate.subject_pki.raw);
        let key = RawPublicKeyEntity::try_from(&spki).map_err(|_| CertificatesRefused::Unreadable)?;
        let of_scheme = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let Some((_, algorithms)) = of_scheme else {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        };
        let tried = if all_of_scheme { algorithms.len() } else { 1 };
        let mut refused = CertificatesRefused::Key(signed.scheme);
        for algorithm in algorithms.iter().take(tried) {
            match key.verify_signature(*algorithm, message, signed.signature()) {
                Ok(()) => return Ok(HandshakeSignatureValid::assertion()),
                Err(webpki::Error::InvalidSignatureForPublicKey) => refused = CertificatesRefused::OtherKey,
                // The algorithm is for another kind of key.
                Err(_) => {}
            }
        }
        Err(refused.into())
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a device chooses by them, and every certificate may be enrolled.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    /// Spec: DPS-X509-2.
    fn verify_client_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let count = others.len() + 1;
        if count > PresentedChain::CERTIFICATES_MAX {
            return Err(CertificatesRefused::TooMany(count).into());
        }
        let bytes = own.len() + others.iter().map(|certificate| certificate.len()).sum::<usize>();
        if bytes > CERTIFICATES_BYTES_MAX {
            return Err(CertificatesRefused::TooLong(bytes).into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.prove(message, certificate, signed, true)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let is_of_tls13 = matches!(
            signed.scheme,
            SignatureScheme::ECDSA_NISTP256_SHA256
                | SignatureScheme::ECDSA_NISTP384_SHA384
                | SignatureScheme::ECDSA_NISTP521_SHA512
                | SignatureScheme::RSA_PSS_SHA256
                | SignatureScheme::RSA_PSS_SHA384
                | SignatureScheme::RSA_PSS_SHA512
                | SignatureScheme::ED25519
        );
        if !is_of_tls13 {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        self.prove(message, certificate, signed, false)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
