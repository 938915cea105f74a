//! `[[tls.certificate]]`: what the service proves itself with. Spec: DPS-SERVE-6.

use std::path::{Path, PathBuf};

use dps_server::tls::{self, CertificateFiles, ServerCertificates, TlsError};

use jiff::{SignedDuration, Timestamp};

use super::document::{Context, Table};
use super::fault::Located;
use super::key::{Key, Section, Standard};
use super::secret::{Unusable, check_small};

/// Time that is left to renew a certificate.
const WARN_BEFORE_EXPIRY: SignedDuration = SignedDuration::from_hours(14 * 24);

const CHAIN_FILE: &str = "tls.certificate.chain_file";
const KEY_FILE: &str = "tls.certificate.key_file";

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
        if !check_files(table.context, chain_file.as_ref(), key_file.as_ref()) {
            return None;
        }
        let certificate = Self { chain_file: chain_file?, key_file: key_file? };
        certificate.judge(table.context);
        Some(certificate)
    }

    /// Notes what is wrong with the files as they are now, and warns of what clients will refuse.
    pub(super) fn check(&self, context: &Context<'_>) {
        if check_files(context, Some(&self.chain_file), Some(&self.key_file)) {
            self.judge(context);
        }
    }

    fn judge(&self, context: &Context<'_>) {
        let loaded = match ServerCertificates::load(&[self.files()]) {
            Ok(loaded) => loaded,
            Err(why) => return self.note(context, &why),
        };
        let at = self.chain_file.at;
        let (expires, now) =
            (loaded.expiry().map_or(Timestamp::MAX, |expiry| expiry.preferred), Timestamp::now());
        if expires <= now {
            let why = format!("a certificate of the chain expired at {expires}, and clients refuse it");
            context.grave_warning(at, CHAIN_FILE, why, "renew it");
        } else if expires < now + WARN_BEFORE_EXPIRY {
            let why = format!(
                "a certificate of the chain expires at {expires}, and clients refuse it from then on"
            );
            context.warning(at, CHAIN_FILE, why, "renew it");
        }
        if loaded.any_is_ca() {
            let why = "the server's certificate is itself a CA certificate, and many clients refuse that";
            context.warning(at, CHAIN_FILE, why, "issue one with CA:FALSE, and put it first");
        }
    }

    fn note(&self, context: &Context<'_>, why: &TlsError) {
        let key_advice = "name the PEM file of the key that belongs to the chain";
        match why {
            TlsError::File { file, .. } if *file == self.chain_file.value.display().to_string() => {
                let advice = "name a PEM file of certificates, the server's own first";
                context.fault(self.chain_file.at, CHAIN_FILE, why.to_string(), advice);
                // The two may have been exchanged.
                if let Err(why) = tls::check_key(&self.key_file.value) {
                    context.fault(self.key_file.at, KEY_FILE, why.to_string(), key_advice);
                }
            }
            _ => context.fault(self.key_file.at, KEY_FILE, why.to_string(), key_advice),
        }
    }
}

/// Whether the files, as far as they are named, may be read: the key by nobody but its owner. Notes what is wrong.
fn check_files(
    context: &Context<'_>,
    chain_file: Option<&Located<PathBuf>>,
    key_file: Option<&Located<PathBuf>>,
) -> bool {
    let judge =
        |key, file: Option<&Located<PathBuf>>, check: &dyn Fn(&Path) -> Result<(), Unusable>| match file {
            Some(file) => check(&file.value)
                .inspect_err(|why| context.fault(file.at, key, why.to_string(), why.advice()))
                .is_ok(),
            None => true,
        };
    let chain_is_good = judge(CHAIN_FILE, chain_file, &check_small);
    let key_is_good = judge(KEY_FILE, key_file, &|path| context.private_file(path).map(drop));
    chain_is_good && key_is_good
}
