//! TLS for device listeners: all use of rustls on the server side. Spec: DPS-DEV-6, DPS-DEV-7, DPS-METRICS-6.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SignatureAlgorithm};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::parse_x509_certificate;

/// Largest record sent, in bytes: small clients have buffers of this size.
const RECORD_BYTES_MAX: usize = 4_096;

/// The certificates of a listener, exchanged while it runs. Spec: DPS-DEV-7, DPS-SERVE-6.
#[derive(Debug)]
pub struct ServerCertificates {
    /// In order of preference.
    current: ArcSwap<Vec<Served>>,
}

/// A certificate chain with its key.
#[derive(Debug)]
struct Served {
    certified: Arc<CertifiedKey>,
    expires: Timestamp,
}

/// Until when clients accept the chains that are served: the date of the certificate that expires first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Of the chains whose keys are of the preferred kind.
    pub preferred: Timestamp,
    /// Of the chains for clients that cannot verify that kind, where there are any; their keys are RSA.
    pub rsa: Option<Timestamp>,
}

/// Where one certificate chain and its key lie, both PEM.
#[derive(Debug, Clone, Copy)]
pub struct CertificateFiles<'p> {
    /// Leaf first.
    pub chain: &'p Path,
    /// PKCS#8, PKCS#1 or SEC1.
    pub key: &'p Path,
}

/// Why TLS cannot be set up. Names the file.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The chain and the key do not go together, or rustls cannot use them.
    #[error("{file}: {why}")]
    Key {
        /// The key file.
        file: String,
        /// What is wrong.
        why: rustls::Error,
    },
    /// rustls refuses the settings.
    #[error("TLS settings: {0}")]
    Settings(#[from] rustls::Error),
}

impl ServerCertificates {
    /// Reads the files, the preferred ones first.
    pub fn load(files: &[CertificateFiles<'_>]) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self { current: ArcSwap::from_pointee(served(files)?) }))
    }

    /// Reads the files again. Open connections stay; on an error the old certificates stay.
    pub fn reload(&self, files: &[CertificateFiles<'_>]) -> Result<(), TlsError> {
        self.current.store(Arc::new(served(files)?));
        Ok(())
    }

    /// When the certificates expire that are served now; `None` where there are none. Spec: DPS-METRICS-6.
    pub fn expiry(&self) -> Option<Expiry> {
        let current = self.current.load();
        let kind = |served: &Served| served.certified.key.algorithm();
        let preferred = kind(current.first()?);
        let first = |of_preferred: bool| {
            let chains = current.iter().filter(|served| (kind(served) == preferred) == of_preferred);
            chains.map(|served| served.expires).min()
        };
        Some(Expiry { preferred: first(true)?, rsa: first(false) })
    }

    /// Whether any of them carries the name or address `host`.
    pub fn carry(&self, host: &str) -> bool {
        ServerName::try_from(host)
            .is_ok_and(|host| self.current.load().iter().any(|served| carries(&served.certified, &host)))
    }
}

fn served(files: &[CertificateFiles<'_>]) -> Result<Vec<Served>, TlsError> {
    let provider = provider();
    files.iter().map(|files| Served::read(*files, &provider)).collect()
}

impl Served {
    fn read(files: CertificateFiles<'_>, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let unreadable = |path: &Path| {
            let file = path.display().to_string();
            move |why: rustls_pki_types::pem::Error| TlsError::File { file, why: why.to_string() }
        };
        let chain = CertificateDer::pem_file_iter(files.chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(unreadable(files.chain))?;
        let key = PrivateKeyDer::from_pem_file(files.key).map_err(unreadable(files.key))?;
        let unfit = |why: String| TlsError::File { file: files.chain.display().to_string(), why };
        let expires = first_expiry(&chain).map_err(unfit)?;
        let key = CertifiedKey::from_der(chain, key, provider)
            .map_err(|why| TlsError::Key { file: files.key.display().to_string(), why })?;
        Ok(Self { certified: Arc::new(key), expires })
    }
}

fn first_expiry(chain: &[CertificateDer<'_>]) -> Result<Timestamp, String> {
    let mut first = Timestamp::MAX;
    for certificate in chain {
        let (_, parsed) = parse_x509_certificate(certificate).map_err(|why| why.to_string())?;
        // A date that the calendar cannot hold is as good as none.
        let seconds = parsed.validity().not_after.timestamp();
        first = first.min(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX));
    }
    if chain.is_empty() { Err("no certificate in it".to_owned()) } else { Ok(first) }
}

impl ResolvesServerCert for ServerCertificates {
    /// The first that the client can verify and that carries the name it asks for; else the first that it can verify; else
    /// the first, for the sake of a clear alert. Spec: DPS-SERVE-6.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.load();
        let certified = || current.iter().map(|served| &served.certified);
        let usable = || certified().filter(|certified| verifies(&hello, certified));
        let named = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok())
            .and_then(|name| usable().find(|certified| carries(certified, &name)));
        named.or_else(|| usable().next()).or_else(|| certified().next()).map(Arc::clone)
    }
}

fn carries(certified: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = certified.end_entity_cert().and_then(ParsedCertificate::try_from);
    certificate.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// Whether the client can verify a signature of the key and, below TLS 1.3, offers a cipher suite that uses one.
fn verifies(hello: &ClientHello<'_>, certified: &CertifiedKey) -> bool {
    if certified.key.choose_scheme(hello.signature_schemes()).is_none() {
        return false;
    }
    certified.key.algorithm() == SignatureAlgorithm::RSA
        || hello.cipher_suites().iter().any(|suite| {
            matches!(
                suite,
                CipherSuite::TLS13_AES_128_GCM_SHA256
                    | CipherSuite::TLS13_AES_256_GCM_SHA384
                    | CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
                    | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            )
        })
}

/// The settings of a device listener. Spec: DPS-DEV-6.
pub fn server_config(certificates: Arc<ServerCertificates>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    // A resumed session would skip the proof of possession, and rustls's cache costs more than a handshake.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_fragment_size = Some(RECORD_BYTES_MAX);
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

/// rustls's provider with the cheap choices first; what it offers stays the same.
pub fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    let cost = |group: rustls::NamedGroup| match group {
        rustls::NamedGroup::X25519 => 0,
        rustls::NamedGroup::secp256r1 => 1,
        rustls::NamedGroup::secp384r1 => 2,
        _ => 3,
    };
    provider.kx_groups.sort_by_key(|group| cost(group.name()));
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};

    use super::*;

    /// Writes a certificate that ends with `year`, and its key.
    fn make(folder: &Path, name: &str, key: &KeyPair, year: i32) {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 12, 31);
        fs::write(folder.join(format!("{name}.pem")), params.self_signed(key).unwrap().pem()).unwrap();
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn end_of(year: i32) -> Timestamp {
        format!("{year}-12-31T00:00:00Z").parse().unwrap()
    }

    /// DPS-METRICS-6
    #[test]
    fn the_expiry_is_that_of_the_certificates_served_now_and_the_first_in_each_chain() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let (chain, key, other_chain, other_key) =
            (path("a.pem"), path("a.key"), path("b.pem"), path("b.key"));
        let first = CertificateFiles { chain: &chain, key: &key };
        let second = CertificateFiles { chain: &other_chain, key: &other_key };
        let ecdsa = KeyPair::generate().unwrap();
        let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        make(folder.path(), "a", &ecdsa, 2040);
        make(folder.path(), "b", &rsa, 2041);
        let certificates = ServerCertificates::load(&[first, second]).unwrap();
        let expiry = Expiry { preferred: end_of(2040), rsa: Some(end_of(2041)) };
        assert_eq!(certificates.expiry(), Some(expiry));

        make(folder.path(), "a", &ecdsa, 2050);
        assert_eq!(
            certificates.expiry(),
            Some(expiry),
            "the old ones are served until the files are read again"
        );
        let issuer = fs::read_to_string(&other_chain).unwrap();
        fs::write(&chain, fs::read_to_string(&chain).unwrap() + &issuer).unwrap();
        certificates.reload(&[first]).unwrap();
        assert_eq!(certificates.expiry(), Some(Expiry { preferred: end_of(2041), rsa: None }));

        fs::write(&chain, "no certificate").unwrap();
        assert!(certificates.reload(&[first]).is_err());
        assert_eq!(certificates.expiry().unwrap().preferred, end_of(2041), "what is served stays");
    }
}
