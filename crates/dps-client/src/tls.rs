//! TLS as a client uses it: all use of rustls on the client side.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

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

/// Trusts the certificates of one PEM file and nothing else.
pub fn trusting(ca_file: &Path) -> Result<Arc<ClientConfig>, TrustError> {
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
    trusting_roots(roots)
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
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
