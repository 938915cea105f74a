//! TLS for device listeners: all use of rustls on the server side. Spec: DPS-DEV-6, DPS-DEV-7, DPS-METRICS-6.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SignatureAlgorithm};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use x509_parser::parse_x509_certificate;

use crate::client_certificates::AnyCertificate;

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
    /// When the first certificate of the chain does.
    expires: Timestamp,
    /// Whether the server's certificate is that of a CA.
    is_ca: bool,
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
    /// A file cannot be read as PEM, or holds something else than it should.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The chain ran out, and one that did not is served.
    #[error("{file}: a certificate of the chain expired at {at}, and the one that is served is still good")]
    Expired {
        /// The file of the chain.
        file: String,
        /// When it did.
        at: Timestamp,
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

    /// Reads the files again. Open connections stay; on an error the old certificates stay. So they do where one of the
    /// new chains has expired at `now` and none of the old ones.
    pub fn reload(&self, files: &[CertificateFiles<'_>], now: Timestamp) -> Result<(), TlsError> {
        let new = served(files)?;
        let old_is_good = self.current.load().iter().all(|served| served.expires > now);
        let expired = new.iter().zip(files).find(|(served, _)| served.expires <= now);
        if let Some((served, files)) = expired
            && old_is_good
        {
            return Err(TlsError::Expired { file: files.chain.display().to_string(), at: served.expires });
        }
        self.current.store(Arc::new(new));
        Ok(())
    }

    /// Whether the server's certificate is a CA certificate in any of them: many clients refuse it.
    pub fn any_is_ca(&self) -> bool {
        self.current.load().iter().any(|served| served.is_ca)
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

/// Whether a file holds a private key, whatever certificate it belongs to.
pub fn check_key(file: &Path) -> Result<(), TlsError> {
    private_key(file).map(drop)
}

impl Served {
    fn read(files: CertificateFiles<'_>, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let chain = CertificateDer::pem_file_iter(files.chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|why| unfit(files.chain, not_pem(why, NO_CERTIFICATE)))?;
        let (expires, is_ca) = judge(&chain).map_err(|why| unfit(files.chain, why))?;
        let key = private_key(files.key)?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|why| {
            let why = match why {
                rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate".to_owned(),
                why => format!("the key cannot be used: {why}"),
            };
            unfit(files.key, why)
        })?;
        Ok(Self { certified: Arc::new(certified), expires, is_ca })
    }
}

const NO_CERTIFICATE: &str = "there is no certificate in it";

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(file)
        .map_err(|why| unfit(file, not_pem(why, "there is no private key in it")))
}

fn unfit(file: &Path, why: String) -> TlsError {
    TlsError::File { file: file.display().to_string(), why }
}

/// Repeats nothing of the file, which may be a key.
fn not_pem(why: pem::Error, nothing: &str) -> String {
    match why {
        pem::Error::NoItemsFound => nothing.to_owned(),
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a BEGIN line is not that of a PEM section".to_owned(),
        pem::Error::Base64Decode(_) => "what stands in a PEM section is not Base64".to_owned(),
        pem::Error::Io(why) => format!("the file cannot be read: {why}"),
        why => why.to_string(),
    }
}

/// When the first certificate expires, and whether the server's own is that of a CA.
fn judge(chain: &[CertificateDer<'_>]) -> Result<(Timestamp, bool), String> {
    let (mut expires, mut is_ca) = (Timestamp::MAX, None);
    for certificate in chain {
        let (_, parsed) =
            parse_x509_certificate(certificate).map_err(|_| "a certificate in it is broken".to_owned())?;
        // A date that the calendar cannot hold is as good as none.
        let seconds = parsed.validity().not_after.timestamp();
        expires = expires.min(Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX));
        is_ca.get_or_insert(parsed.is_ca());
    }
    is_ca.map(|is_ca| (expires, is_ca)).ok_or_else(|| NO_CERTIFICATE.to_owned())
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

/// The settings of a device listener. Spec: DPS-DEV-6, DPS-X509-1.
pub fn server_config(certificates: Arc<ServerCertificates>) -> Result<Arc<ServerConfig>, TlsError> {
    let devices = AnyCertificate::new(&provider());
    server_config_with(certificates, devices)
}

/// As [`server_config`], with another judgement of what devices show: for whoever wants to know what ours costs.
pub fn server_config_with(
    certificates: Arc<ServerCertificates>,
    devices: Arc<dyn ClientCertVerifier>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(devices)
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
        let now = end_of(2030);
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
        certificates.reload(&[first], now).unwrap();
        assert_eq!(certificates.expiry(), Some(Expiry { preferred: end_of(2041), rsa: None }));

        fs::write(&chain, "no certificate").unwrap();
        assert!(certificates.reload(&[first], now).is_err());
        assert_eq!(certificates.expiry().unwrap().preferred, end_of(2041), "what is served stays");
    }
    /// DPS-SERVE-6
    #[test]
    fn a_chain_that_has_expired_does_not_replace_one_that_has_not() {
        let folder = tempfile::tempdir().unwrap();
        let (chain, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
        let files = [CertificateFiles { chain: &chain, key: &key }];
        let ecdsa = KeyPair::generate().unwrap();
        make(folder.path(), "a", &ecdsa, 2040);
        let certificates = ServerCertificates::load(&files).unwrap();
        make(folder.path(), "a", &ecdsa, 2035);
        let told = certificates.reload(&files, end_of(2036)).unwrap_err().to_string();
        assert!(told.contains("a.pem: ") && told.contains("expired at 2035-12-31"), "{told}");
        assert_eq!(certificates.expiry().unwrap().preferred, end_of(2040));

        certificates.reload(&files, end_of(2041)).unwrap();
        assert_eq!(
            certificates.expiry().unwrap().preferred,
            end_of(2035),
            "where both have, the file counts"
        );
    }

    /// DPS-SERVE-6
    #[test]
    fn a_file_that_cannot_be_used_is_told_in_plain_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        make(folder.path(), "a", &KeyPair::generate().unwrap(), 2040);
        make(folder.path(), "b", &KeyPair::generate().unwrap(), 2040);
        fs::write(path("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
        for (chain, key, expected) in [
            ("a.pem", "b.key", "b.key: the key does not belong to the certificate"),
            ("a.pem", "a.pem", "a.pem: there is no private key in it"),
            ("a.key", "a.key", "a.key: there is no certificate in it"),
            ("cut.pem", "a.key", "cut.pem: a PEM section has no END line"),
        ] {
            let (chain, key) = (path(chain), path(key));
            let told =
                ServerCertificates::load(&[CertificateFiles { chain: &chain, key: &key }]).unwrap_err();
            assert!(told.to_string().ends_with(expected), "{told}");
        }
        assert!(check_key(&path("a.key")).is_ok() && check_key(&path("a.pem")).is_err());
    }
}
