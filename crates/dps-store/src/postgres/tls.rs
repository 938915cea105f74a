//! TLS to the database. Spec: DPS-STORE-17.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::options::PostgresOpenError;

/// Connects by TLS to servers whose certificate these roots have signed, for the name that was asked for; where there are none, those
/// that the system trusts.
pub(super) fn connector(roots: &[CertificateDer<'static>]) -> Result<MakeRustlsConnect, PostgresOpenError> {
    let mut trusted = RootCertStore::empty();
    if roots.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        trusted.add_parsable_certificates(found.certs);
    } else {
        for root in roots {
            trusted.add(root.clone()).map_err(|error| PostgresOpenError::Tls(error.to_string()))?;
        }
    }
    if trusted.is_empty() {
        let why = "the system trusts no certificates, and none was given".to_owned();
        return Err(PostgresOpenError::Tls(why));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| PostgresOpenError::Tls(error.to_string()))?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
