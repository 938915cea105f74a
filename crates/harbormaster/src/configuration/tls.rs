//! `[[tls.certificate]]`: what the service proves itself with. Spec: DPS-SERVE-6.

use std::path::{Path, PathBuf};

use dps_server::tls::{CertificateFiles, ServerCertificates, TlsError};

use jiff::{SignedDuration, Timestamp};

use super::document::Table;
use super::fault::Located;
use super::key::{Key, Section, Standard};
use super::secret::{Unusable, check_small};

/// Time that is left to renew a certificate.
const WARN_BEFORE_EXPIRY: SignedDuration = SignedDuration::from_hours(14 * 24);

/// One certificate chain and its key.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) chain_file: Located<PathBuf>,
    pub(crate) key_file: Located<PathBuf>,
}

pub(super) fn section() -> Section {
    Section {
        path: "tls.certificate",
        repeated: true,
        about: "A server certificate; at least one, each with its key. A client gets the first that carries the name it asks for \
                and whose key it can verify: give an ECDSA P-256 certificate first, and after it an RSA one for old clients. \
                SIGHUP reads the files again.",
        keys: vec![
            Key::new(
                "chain_file",
                "path of a PEM file",
                Standard::Required,
                "The server's certificate and those that lead to its root, the server's own first. Keep it short: small \
                 devices have little memory.",
            ),
            Key::new(
                "key_file",
                "path of a PEM file",
                Standard::Required,
                "The certificate's private key: PKCS#8, PKCS#1 or SEC1. Nobody but its owner may have rights to the file.",
            ),
        ],
    }
}

impl Certificate {
    /// As [`ServerCertificates`] takes it.
    pub(crate) fn files(&self) -> CertificateFiles<'_> {
        CertificateFiles { chain: &self.chain_file.value, key: &self.key_file.value }
    }

    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        for name in ["chain_file", "key_file"] {
            if !table.has(name) {
                table.missing(name, "give both chain_file and key_file");
            }
        }
        let (chain_file, key_file) = (table.path("chain_file"), table.path("key_file"));
        let mut usable = true;
        let mut judge =
            |name, file: &Option<Located<PathBuf>>, check: &dyn Fn(&Path) -> Result<(), Unusable>| {
                if let Some(file) = file
                    && let Err(why) = check(&file.value)
                {
                    table.fault(file.at, name, why.to_string(), why.advice());
                    usable = false;
                }
            };
        judge("chain_file", &chain_file, &check_small);
        judge("key_file", &key_file, &|path| table.private_file(path).map(drop));
        if !usable {
            return None;
        }
        let certificate = Self { chain_file: chain_file?, key_file: key_file? };
        match ServerCertificates::load(&[certificate.files()]) {
            Ok(loaded) => {
                let expires = loaded.expiry().map_or(Timestamp::MAX, |expiry| expiry.preferred);
                if expires < Timestamp::now() + WARN_BEFORE_EXPIRY {
                    let key = table.key("chain_file");
                    let why = format!(
                        "a certificate of the chain expires at {expires}, and clients refuse it from then on"
                    );
                    table.context.warning(certificate.chain_file.at, &key, why, "renew it");
                }
            }
            Err(why) => certificate.note(table, &why),
        }
        Some(certificate)
    }

    fn note(&self, table: &Table<'_>, why: &TlsError) {
        let (file, name, advice) = match why {
            TlsError::File { file, .. } if *file == self.chain_file.value.display().to_string() => {
                (&self.chain_file, "chain_file", "name a PEM file of certificates, the server's own first")
            }
            _ => (&self.key_file, "key_file", "name the PEM file of the key that belongs to the chain"),
        };
        table.fault(file.at, name, why.to_string(), advice);
    }
}
