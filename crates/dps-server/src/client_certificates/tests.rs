use rcgen::{
    CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm, date_time_ymd,
};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::handshake::HandshakeFault;
use crate::tls::provider;

/// Accepts the server whatever it is; shows what it was given.
#[derive(Debug)]
struct Device(Option<Arc<CertifiedKey>>);

impl ResolvesClientCert for Device {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        // Spec: DPS-X509-1.
        assert!(hints.is_empty());
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

impl ServerCertVerifier for Device {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The certificates that the server has after a handshake, or why there was none.
async fn shaken(
    device: Option<CertifiedKey>,
    version: &'static SupportedProtocolVersion,
) -> Result<Vec<CertificateDer<'static>>, HandshakeFault> {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .unwrap()
        .with_client_cert_verifier(AnyCertificate::new(&provider()))
        .with_single_cert(vec![certificate.der().clone()], private(&key))
        .unwrap();
    let device = Device(device.map(Arc::new));
    let client = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Device(None)))
        .with_client_cert_resolver(Arc::new(device));
    let (theirs, ours) = duplex(64 * 1_024);
    let connecting = TlsConnector::from(Arc::new(client));
    let accepting = TlsAcceptor::from(Arc::new(server));
    let (_, accepted) = tokio::join!(
        connecting.connect(ServerName::try_from("localhost").unwrap(), theirs),
        accepting.accept(ours)
    );
    match accepted {
        Ok(stream) => Ok(stream.certificates().to_vec()),
        Err(why) => Err(HandshakeFault::from(&why)),
    }
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// Shows this chain, and signs with `key`, whose ever that is.
fn showing(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> CertifiedKey {
    CertifiedKey::new(chain, provider().key_provider.load_private_key(private(key)).unwrap())
}

fn key(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).unwrap()
}

fn self_signed(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    change(&mut params);
    params.self_signed(key).unwrap().der().clone()
}

/// DPS-X509-1
#[tokio::test]
async fn a_device_without_a_certificate_is_let_through() {
    for version in [&TLS13, &TLS12] {
        assert_eq!(shaken(None, version).await, Ok(Vec::new()));
    }
}

/// DPS-X509-1
#[tokio::test]
async fn any_certificate_passes_whose_key_is_proved_in_the_order_it_was_sent() {
    let unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
    let mut critical = unknown.clone();
    critical.set_criticality(true);
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256] {
        let key = key(algorithm);
        let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2001, 1, 1);
        for own in [
            self_signed(&key, |_| {}),
            self_signed(&key, expired),
            self_signed(&key, |params| params.custom_extensions.push(critical.clone())),
            self_signed(&key, |params| params.custom_extensions = vec![unknown.clone(), unknown.clone()]),
        ] {
            let other = self_signed(&KeyPair::generate().unwrap(), |_| {});
            let chain = vec![own, other];
            for version in [&TLS13, &TLS12] {
                assert_eq!(shaken(Some(showing(chain.clone(), &key)), version).await, Ok(chain.clone()));
            }
        }
    }
}

/// DPS-X509-1
#[tokio::test]
async fn a_certificate_of_another_key_ends_the_handshake() {
    for (of, with) in [
        (&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P256_SHA256),
        (&PKCS_ED25519, &PKCS_ED25519),
        (&PKCS_RSA_SHA256, &PKCS_RSA_SHA256),
    ] {
        let chain = vec![self_signed(&key(of), |_| {})];
        for version in [&TLS13, &TLS12] {
            let fault = shaken(Some(showing(chain.clone(), &key(with))), version).await.unwrap_err();
            assert_eq!(fault, HandshakeFault::Certificates(CertificatesRefused::OtherKey));
        }
    }
    let chain = vec![self_signed(&key(&PKCS_ECDSA_P256_SHA256), |_| {})];
    for version in [&TLS13, &TLS12] {
        let fault = shaken(Some(showing(chain.clone(), &key(&PKCS_RSA_SHA256))), version).await.unwrap_err();
        assert!(matches!(fault, HandshakeFault::Certificates(CertificatesRefused::Key(_))), "{fault}");
    }
}

/// DPS-X509-2
#[tokio::test]
async fn too_many_certificates_or_too_long_ones_end_the_handshake() {
    let key = key(&PKCS_ECDSA_P256_SHA256);
    let own = self_signed(&key, |_| {});
    let padded = |bytes: usize| CertificateDer::from(vec![0x30; bytes]);
    for version in [&TLS13, &TLS12] {
        for (chain, expected) in [
            (vec![own.clone(); 10], Ok(10)),
            (vec![own.clone(); 11], Err(CertificatesRefused::TooMany(11))),
            (vec![own.clone(), padded(CERTIFICATES_BYTES_MAX - own.len())], Ok(2)),
            (
                vec![own.clone(), padded(CERTIFICATES_BYTES_MAX - own.len() + 1)],
                Err(CertificatesRefused::TooLong(CERTIFICATES_BYTES_MAX + 1)),
            ),
            (vec![padded(300)], Err(CertificatesRefused::Unreadable)),
        ] {
            let shaken = shaken(Some(showing(chain, &key)), version).await;
            let count = shaken.map(|chain| chain.len());
            assert_eq!(count, expected.map_err(HandshakeFault::Certificates));
        }
    }
}
