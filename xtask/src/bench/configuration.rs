//! What `harbormaster serve` is configured with.

use std::path::Path;

use super::machinery::ID_SCOPE;

/// What differs between the subjects; all else is by default, the limits too.
pub(super) struct Configuration {
    /// Tables that stand before the instance.
    pub(super) tables: String,
    /// The instance's linked hubs.
    pub(super) hubs: String,
}

impl Default for Configuration {
    /// One local hub.
    fn default() -> Self {
        let hubs = "[[instance.hub]]\nname = \"hub.localhost\"\nkind = \"local\"\n";
        Self { tables: String::new(), hubs: hubs.to_owned() }
    }
}

impl Configuration {
    /// As TOML, for a file beside that of the owner's key; `dev` has made what the data directory needs.
    pub(super) fn text(&self, data_dir: &Path) -> String {
        let (data, Self { tables, hubs }) = (data_dir.display(), self);
        format!(
            r#"[listen]
mqtt = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
[[tls.certificate]]
chain_file = "{data}/server-ecdsa.pem"
key_file = "{data}/server-ecdsa.key"
[store]
data_dir = "{data}"
sealing_key_file = "{data}/sealing.key"
{tables}[[instance]]
id_scope = "{ID_SCOPE}"
service_hosts = ["localhost"]
{hubs}[[instance.shared_access_policy]]
name = "provisioningserviceowner"
rights = ["ServiceConfig", "EnrollmentRead", "EnrollmentWrite", "DeviceConnect", "RegistrationStatusRead", "RegistrationStatusWrite"]
primary_key_file = "owner.key"
secondary_key_file = "owner.key"
"#
        )
    }
}
