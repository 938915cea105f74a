//! A CA for tests.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::access::random;

/// A CA for tests; several registries may have certificates of one.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// Where no certificate can be made.
    pub fn new() -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A client that trusts several looks for the one that signed by its name.
        let name = format!("hub-registry {:016x}", u64::from_be_bytes(random()));
        params.distinguished_name.push(DnType::CommonName, name);
        Ok(Self { pem: params.self_signed(&key)?.pem(), issuer: Issuer::new(params, key) })
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes its certificate, for clients to trust.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write(&self, ca_file: &Path) -> anyhow::Result<()> {
        std::fs::write(ca_file, &self.pem).with_context(|| ca_file.display().to_string())
    }

    /// TLS with a certificate for these hosts, names or addresses.
    pub(crate) fn tls(&self, address: IpAddr, names: &[String]) -> anyhow::Result<Arc<ServerConfig>> {
        let mut hosts = vec![address.to_string()];
        hosts.extend(names.iter().cloned());
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(hosts)?.signed_by(&key, &self.issuer)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Arc::new(config))
    }
}
