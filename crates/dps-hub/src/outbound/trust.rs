//! Whose certificates are trusted. Spec: DPS-HUB-6.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// Whose certificates are trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// What the system trusts, the files of `SSL_CERT_FILE` and `SSL_CERT_DIR` where they are set.
    #[default]
    System,
    /// That, and the certificates of a PEM file.
    SystemAnd(PathBuf),
    /// The certificates of a PEM file and nothing else.
    Only(PathBuf),
}

/// Certificates to which a server's has to lead.
#[derive(Debug, Clone)]
pub struct TrustedRoots(RootCertStore);

/// Why the trusted certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", file.display())]
pub struct TrustError {
    /// The file that cannot be read as PEM, or holds no certificate.
    pub file: PathBuf,
    /// What is wrong.
    pub why: String,
}

impl TrustedRoots {
    /// Reads them.
    ///
    /// # Errors
    /// The file that cannot be used. A system that trusts nobody is no error: see [`TrustedRoots::is_empty`].
    pub fn read(trust: &Trust) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        match trust {
            Trust::System => add_system(&mut roots),
            Trust::SystemAnd(file) => {
                add_system(&mut roots);
                add_file(&mut roots, file)?;
            }
            Trust::Only(file) => add_file(&mut roots, file)?,
        }
        Ok(Self(roots))
    }

    /// Whether nobody is trusted, so that every request fails.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn tls(self) -> Result<ClientConfig, rustls::Error> {
        Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(self.0)
            .with_no_client_auth())
    }
}

fn add_system(roots: &mut RootCertStore) {
    // Systems carry certificates that no longer parse; the others are as good.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
}

fn add_file(roots: &mut RootCertStore, file: &Path) -> Result<(), TrustError> {
    let problem = |why: String| TrustError { file: file.to_owned(), why };
    let certificates = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| problem(why.to_string()))?;
    if certificates.is_empty() {
        return Err(problem("it holds no certificate".to_owned()));
    }
    certificates
        .into_iter()
        .try_for_each(|certificate| roots.add(certificate))
        .map_err(|why| problem(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-HUB-6
    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let read = || TrustedRoots::read(&Trust::Only(file.clone())).map(|_| ()).unwrap_err().to_string();
        assert!(read().starts_with(&format!("{}: ", file.display())), "{}", read());
        std::fs::write(&file, "nothing").unwrap();
        assert_eq!(read(), format!("{}: it holds no certificate", file.display()));
        std::fs::write(&file, rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem())
            .unwrap();
        let only = TrustedRoots::read(&Trust::Only(file.clone())).unwrap();
        assert_eq!(only.0.len(), 1);
        let system = TrustedRoots::read(&Trust::System).unwrap();
        let both = TrustedRoots::read(&Trust::SystemAnd(file)).unwrap();
        assert_eq!(both.0.len(), system.0.len() + 1);
    }
}
