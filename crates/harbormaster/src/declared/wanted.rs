//! What a file wants of one instance.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_core::instance_settings::BadSettings;
use dps_server::admin::{describe_settings, settings_with_keys};
use serde_json::Value;

use crate::configuration::DeclaredInstance;

/// An instance as the admin API has it.
pub(super) struct Wanted {
    pub(super) id_scope: String,
    /// As the server would tell it.
    pub(super) settings: Value,
    /// The same with keys, for a PUT.
    pub(super) body: Value,
    pub(super) certificates: Vec<WantedCertificate>,
}

/// A CA certificate of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WantedCertificate {
    pub(super) name: String,
    /// Base64 of DER.
    pub(super) certificate: String,
    pub(super) is_verified: bool,
}

impl Wanted {
    /// Of what was declared; [`BadSettings`] where one file can say more than an instance may have.
    pub(super) fn of(declared: DeclaredInstance) -> Result<Self, BadSettings> {
        let settings = declared.instance.settings().checked()?;
        let certificate = |ca: crate::configuration::DeclaredCaCertificate| WantedCertificate {
            name: ca.name.value.as_str().to_owned(),
            certificate: STANDARD.encode(ca.certificate.der()),
            is_verified: ca.is_verified,
        };
        Ok(Self {
            id_scope: settings.id_scope.as_str().to_owned(),
            settings: describe_settings(&settings),
            body: settings_with_keys(&settings),
            certificates: declared.ca_certificates.into_iter().map(certificate).collect(),
        })
    }
}
