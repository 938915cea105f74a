//! TLS as a client uses it: all use of rustls on the client side.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, ConfigBuilder, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why the trusted certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read as PEM, or holds no certificate.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// The system trusts nobody, or does not say whom.
    #[error("no certificates that the system trusts: {0}")]
    System(String),
    /// rustls refuses the settings.
    #[error("TLS settings: {0}")]
    Settings(#[from] rustls::Error),
}

/// What a device shows of itself in the handshake.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads a chain in PEM, the device's own certificate first, and its key (PKCS#8, PKCS#1 or SEC1 in PEM).
    ///
    /// # Errors
    /// The file that cannot be read, or holds something else.
    pub fn read(chain: &Path, key: &Path) -> Result<Self, TrustError> {
        let problem = |file: &Path, why: String| TrustError::File { file: file.display().to_string(), why };
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|why| problem(chain, why.to_string()))?;
        if certificates.is_empty() {
            return Err(problem(chain, "it holds no certificate".to_owned()));
        }
        // Nothing of the file is repeated: it is a key.
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|_| problem(key, "it cannot be read, or there is no private key in it".to_owned()))?;
        Ok(Self { chain: certificates, key })
    }
}

/// Trusts the certificates of one PEM file and nothing else, and shows `identity`.
///
/// # Errors
/// As [`trusting`]; and where the key is of another kind than rustls signs with. Whether it belongs to the certificate is for the
/// service to see.
pub fn trusting_as(ca_file: &Path, identity: Identity) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(identity.key)?;
    let shown = Arc::new(CertifiedKey::new(identity.chain, key));
    let config = builder(roots_of(ca_file)?)?.with_client_cert_resolver(Arc::new(AlwaysShows(shown)));
    Ok(Arc::new(config))
}

/// Shows its certificate to whoever asks for one, X.509 v1 and a wrong key too: what comes of it is what its author wants to
/// see.
#[derive(Debug)]
struct AlwaysShows(Arc<CertifiedKey>);

impl ResolvesClientCert for AlwaysShows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Trusts the certificates of one PEM file and nothing else.
pub fn trusting(ca_file: &Path) -> Result<Arc<ClientConfig>, TrustError> {
    trusting_roots(roots_of(ca_file)?)
}

fn roots_of(ca_file: &Path) -> Result<RootCertStore, TrustError> {
    let problem = |why: String| TrustError::File { file: ca_file.display().to_string(), why };
    let certificates = CertificateDer::pem_file_iter(ca_file).map_err(|why| problem(why.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        let certificate = certificate.map_err(|why| problem(why.to_string()))?;
        roots.add(certificate).map_err(|why| problem(why.to_string()))?;
    }
    if roots.is_empty() {
        return Err(problem("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// Trusts what the system trusts: the files of `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set. Spec: DPS-CLI-4.
pub fn trusting_the_system() -> Result<Arc<ClientConfig>, TrustError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry certificates that no longer parse; the others are as good.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TrustError::System(if why.is_empty() {
            "none are installed".into()
        } else {
            why.join("; ")
        }));
    }
    trusting_roots(roots)
}

fn trusting_roots(roots: RootCertStore) -> Result<Arc<ClientConfig>, TrustError> {
    Ok(Arc::new(builder(roots)?.with_no_client_auth()))
}

fn builder(roots: RootCertStore) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TrustError> {
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots))
}

/// What a failed handshake has against the server's certificate, if that is why it failed.
pub(crate) fn certificate_error(why: &io::Error) -> Option<&CertificateError> {
    match why.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(why) => Some(why),
        _ => None,
    }
}

/// The same in words.
pub(crate) fn certificate_fault(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "none of the trusted CAs issued it, nor any CA that it names".to_owned(),
        CertificateError::BadSignature => {
            "its signature is not that of the trusted CA of this name: the CA was made anew, or it is another's".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("it, or a CA above it, has expired, or the clock of this machine is wrong ({why})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("it, or a CA above it, is not valid yet, or the clock of this machine is wrong ({why})")
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        CertificateError::BadEncoding => "it cannot be read".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not one for servers: its extended key usage lacks serverAuth".to_owned()
        }
        CertificateError::Other(other) => match other.0.to_string().as_str() {
            CA_AS_SERVER => {
                "the server's certificate is itself a CA certificate: issue one with CA:FALSE".to_owned()
            }
            other => other.to_owned(),
        },
        why => why.to_string(),
    }
}

/// As webpki names it.
const CA_AS_SERVER: &str = "CaUsedAsEndEntity";

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        date_time_ymd,
    };
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls_pki_types::{ServerName, UnixTime};

    use super::*;

    /// What is said of a certificate that the trusted CA, or another, issued.
    fn told(is_trusted: bool, change: impl FnOnce(&mut CertificateParams)) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        if is_trusted {
            roots.add(certificate.der().clone()).unwrap();
        } else {
            let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
            roots.add(other.cert.der().clone()).unwrap();
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let refused =
            verifier.verify_server_cert(certificate.der(), &[], &name, &[], UnixTime::now()).unwrap_err();
        certificate_fault(certificate_error(&io::Error::other(refused)).unwrap())
    }

    /// DPS-CLI-15
    #[test]
    fn what_is_wrong_with_a_certificate_is_told_in_words() {
        let is_ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        for (told, expected) in [
            (told(true, is_ca), "is itself a CA certificate: issue one with CA:FALSE"),
            (
                told(false, |params| params.distinguished_name = DistinguishedName::new()),
                "none of the trusted CAs",
            ),
            (told(false, |_| {}), "the CA was made anew"),
            (told(true, |params| params.not_after = date_time_ymd(2020, 2, 2)), "has expired"),
            (told(true, |params| params.not_before = date_time_ymd(2200, 2, 2)), "is not valid yet"),
            (
                told(true, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
                "lacks serverAuth",
            ),
        ] {
            assert!(told.contains(expected), "{told}");
        }
    }
}
