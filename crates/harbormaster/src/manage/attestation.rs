//! Options for how devices prove themselves.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use dps_proto::key::SymmetricKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};

use super::document::EntryDocument;
use crate::file_option;

#[derive(Args)]
pub(super) struct CredentialOptions {
    /// File with the primary key, Base64; - is standard input. Without it the service makes one for a new entry.
    #[arg(long, value_name = "FILE")]
    primary_key_file: Option<PathBuf>,
    /// File with the secondary key, likewise.
    #[arg(long, value_name = "FILE")]
    secondary_key_file: Option<PathBuf>,
    /// X.509 certificate, PEM or DER: of the device, or for a group the one that signs its devices' certificates.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// A second one that is as good, to change over to.
    #[arg(long, value_name = "FILE")]
    secondary_certificate: Option<PathBuf>,
}

/// How a device proves itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AttestationKind {
    /// With a key that it shares with the service.
    SymmetricKey,
    /// With a certificate.
    X509,
    /// With its TPM, over HTTPS.
    Tpm,
}

/// How a device of a group proves itself.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum GroupAttestationKind {
    /// With a key derived from the group's.
    SymmetricKey,
    /// With a certificate whose chain reaches the group's.
    X509,
}

impl From<GroupAttestationKind> for AttestationKind {
    fn from(kind: GroupAttestationKind) -> Self {
        match kind {
            GroupAttestationKind::SymmetricKey => Self::SymmetricKey,
            GroupAttestationKind::X509 => Self::X509,
        }
    }
}

impl AttestationKind {
    fn option(self) -> &'static str {
        match self {
            Self::SymmetricKey => "symmetric-key",
            Self::X509 => "x509",
            Self::Tpm => "tpm",
        }
    }

    fn wire(self) -> &'static str {
        match self {
            Self::SymmetricKey => "symmetricKey",
            Self::X509 => "x509",
            Self::Tpm => "tpm",
        }
    }
}

/// What the options ask for.
pub(super) enum AttestationChange {
    /// Symmetric keys; those not given stay, or are made by the service.
    SymmetricKey { primary: Option<SymmetricKey>, secondary: Option<SymmetricKey> },
    /// Certificates, DER in Base64; one not given stays.
    X509 { container: &'static str, primary: Option<String>, secondary: Option<String> },
    /// A TPM; the key, Base64, if it is given.
    Tpm { endorsement_key: Option<String> },
}

impl AttestationChange {
    /// Reads the options; `container` is where the certificates of such an entry stand. `None` where nothing was given.
    pub(super) fn read(
        kind: Option<AttestationKind>,
        options: &CredentialOptions,
        endorsement_key: Option<&String>,
        container: &'static str,
    ) -> anyhow::Result<Option<Self>> {
        let CredentialOptions { primary_key_file, secondary_key_file, certificate, secondary_certificate } =
            options;
        let given = [
            (primary_key_file.is_some(), "--primary-key-file", AttestationKind::SymmetricKey),
            (secondary_key_file.is_some(), "--secondary-key-file", AttestationKind::SymmetricKey),
            (certificate.is_some(), "--certificate", AttestationKind::X509),
            (secondary_certificate.is_some(), "--secondary-certificate", AttestationKind::X509),
            (endorsement_key.is_some(), "--endorsement-key", AttestationKind::Tpm),
        ];
        let mut kind = kind;
        for (_, option, of) in given.into_iter().filter(|(given, _, _)| *given) {
            let kind = *kind.get_or_insert(of);
            if kind != of {
                bail!("{option} is for --attestation {}, not for {}", of.option(), kind.option());
            }
        }
        let key = |option, file: &Option<PathBuf>| -> anyhow::Result<Option<SymmetricKey>> {
            file.as_deref().map(|file| file_option::key(option, file)).transpose()
        };
        let certificate_of = |option, file: &Option<PathBuf>| -> anyhow::Result<Option<String>> {
            file.as_deref().map(|file| read_certificate(option, file)).transpose()
        };
        Ok(match kind {
            None => None,
            Some(AttestationKind::SymmetricKey) => Some(Self::SymmetricKey {
                primary: key("--primary-key-file", primary_key_file)?,
                secondary: key("--secondary-key-file", secondary_key_file)?,
            }),
            Some(AttestationKind::X509) => Some(Self::X509 {
                container,
                primary: certificate_of("--certificate", certificate)?,
                secondary: certificate_of("--secondary-certificate", secondary_certificate)?,
            }),
            Some(AttestationKind::Tpm) => Some(Self::Tpm { endorsement_key: endorsement_key.cloned() }),
        })
    }

    /// Whether one key is to change and the other to stay, which only the service knows: left out, it might be made anew.
    pub(super) fn needs_the_other_key_of(&self, document: &EntryDocument) -> bool {
        let Self::SymmetricKey { primary, secondary } = self else { return false };
        let other = match (primary, secondary) {
            (Some(_), None) => "secondaryKey",
            (None, Some(_)) => "primaryKey",
            (Some(_), Some(_)) | (None, None) => return false,
        };
        document.get("attestation").is_some_and(|found| {
            found["type"] == self.kind().wire()
                && found["symmetricKey"][other].as_str().unwrap_or_default().is_empty()
        })
    }

    fn kind(&self) -> AttestationKind {
        match self {
            Self::SymmetricKey { .. } => AttestationKind::SymmetricKey,
            Self::X509 { .. } => AttestationKind::X509,
            Self::Tpm { .. } => AttestationKind::Tpm,
        }
    }

    /// Sets the attestation. What the entry has of the same kind stays unless it is replaced.
    pub(super) fn apply(&self, document: &mut EntryDocument) -> anyhow::Result<()> {
        let kind = self.kind();
        let mut attestation = match document.get("attestation") {
            Some(Value::Object(found)) if found.get("type") == Some(&json!(kind.wire())) => found,
            _ => Map::from_iter([("type".to_owned(), json!(kind.wire()))]),
        };
        match self {
            Self::SymmetricKey { primary, secondary } => {
                let mut keys = object_of(&mut attestation, "symmetricKey");
                for (name, key) in [("primaryKey", primary), ("secondaryKey", secondary)] {
                    if let Some(key) = key {
                        keys.insert(name.to_owned(), json!(*key.expose_base64()));
                    }
                }
                if !keys.is_empty() {
                    attestation.insert("symmetricKey".to_owned(), keys.into());
                }
            }
            Self::X509 { container, primary, secondary } => {
                let mut x509 = object_of(&mut attestation, "x509");
                let mut certificates = object_of(&mut x509, container);
                for (name, certificate) in [("primary", primary), ("secondary", secondary)] {
                    if let Some(certificate) = certificate {
                        certificates.insert(name.to_owned(), json!({"certificate": certificate}));
                    }
                }
                if certificates.get("primary").is_none_or(Value::is_null) {
                    bail!("--attestation x509: give --certificate");
                }
                // An entry has certificates in one place only.
                attestation.insert("x509".to_owned(), json!({*container: certificates}));
            }
            Self::Tpm { endorsement_key } => {
                let mut tpm = object_of(&mut attestation, "tpm");
                if let Some(key) = endorsement_key {
                    tpm.insert("endorsementKey".to_owned(), json!(key));
                }
                if tpm.get("endorsementKey").is_none_or(Value::is_null) {
                    bail!("--attestation tpm: give --endorsement-key");
                }
                attestation.insert("tpm".to_owned(), tpm.into());
            }
        }
        document.set("attestation", &attestation.into())?;
        Ok(())
    }
}

/// The object that stands there, or an empty one.
fn object_of(parent: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match parent.remove(name) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// The one certificate of a file, DER in Base64. Nothing else of the file is sent: beside it may lie its private key.
fn read_certificate(option: &'static str, path: &Path) -> anyhow::Result<String> {
    let bytes = file_option::read(option, path)?;
    // A DER certificate is a SEQUENCE; a PEM file is text.
    if bytes.first() == Some(&0x30) {
        return Ok(STANDARD.encode(&*bytes));
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = certificates.map_err(|why| anyhow!("{option} {}: {why}", path.display()))?;
    match certificates.as_slice() {
        [only] => Ok(STANDARD.encode(only)),
        [] => Err(anyhow!("{option} {}: it holds no certificate", path.display())),
        several => Err(anyhow!(
            "{option} {}: it holds {} certificates; give a file with the one that is meant",
            path.display(),
            several.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

    fn document(attestation: &str) -> EntryDocument {
        let json = format!(r#"{{"attestation":{attestation}}}"#);
        EntryDocument::parse(serde_json::from_str(&json).unwrap()).unwrap()
    }

    fn applied(change: &AttestationChange, attestation: &str) -> anyhow::Result<Value> {
        let mut document = document(attestation);
        change.apply(&mut document)?;
        Ok(document.get("attestation").unwrap())
    }

    fn x509(primary: Option<&str>, secondary: Option<&str>) -> AttestationChange {
        AttestationChange::X509 {
            container: "clientCertificates",
            primary: primary.map(str::to_owned),
            secondary: secondary.map(str::to_owned),
        }
    }

    /// DPS-CLI-9
    #[test]
    fn a_key_that_is_not_given_stays() {
        let change = AttestationChange::SymmetricKey { primary: OTHER_KEY.parse().ok(), secondary: None };
        assert!(change.needs_the_other_key_of(&document(r#"{"type":"symmetricKey"}"#)));
        assert!(!change.needs_the_other_key_of(&document(r#"{"type":"x509"}"#)));
        let known = r#"{"type":"symmetricKey","symmetricKey":{"primaryKey":"old","secondaryKey":"kept"}}"#;
        assert!(!change.needs_the_other_key_of(&document(known)));
        assert_eq!(
            applied(&change, known).unwrap()["symmetricKey"],
            json!({"primaryKey": OTHER_KEY, "secondaryKey": "kept"})
        );
    }

    /// DPS-CLI-9
    #[test]
    fn a_certificate_that_is_not_given_stays_as_the_service_told_it() {
        let known = r#"{"type":"x509","x509":{"clientCertificates":{"primary":{"info":{"version":3}}}}}"#;
        assert_eq!(
            applied(&x509(None, Some("new")), known).unwrap()["x509"],
            json!({"clientCertificates": {"primary": {"info": {"version": 3}}, "secondary": {"certificate": "new"}}})
        );
        let references = r#"{"type":"x509","x509":{"caReferences":{"primary":"a"}}}"#;
        assert_eq!(
            applied(&x509(Some("new"), None), references).unwrap()["x509"],
            json!({"clientCertificates": {"primary": {"certificate": "new"}}})
        );
    }

    #[test]
    fn an_attestation_of_another_kind_leaves_nothing_of_the_old_one() {
        let change = AttestationChange::SymmetricKey { primary: None, secondary: None };
        let known = r#"{"type":"tpm","tpm":{"endorsementKey":"a"}}"#;
        assert_eq!(applied(&change, known).unwrap(), json!({"type": "symmetricKey"}));
    }

    #[test]
    fn an_attestation_without_what_it_proves_is_refused() {
        let tpm = AttestationChange::Tpm { endorsement_key: None };
        for change in [tpm, x509(None, Some("new"))] {
            let why = applied(&change, r#"{"type":"symmetricKey"}"#).unwrap_err().to_string();
            assert!(why.contains("give --"), "{why}");
        }
    }

    /// DPS-CLI-13
    #[test]
    fn of_a_file_with_a_private_key_only_the_certificate_is_sent() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let sent = |content: String| {
            std::fs::write(file.path(), content).unwrap();
            read_certificate("--certificate", file.path())
        };
        let expected = STANDARD.encode(certificate.der());
        assert_eq!(sent(key.serialize_pem() + &certificate.pem()).unwrap(), expected);
        assert!(sent(key.serialize_pem()).unwrap_err().to_string().contains("no certificate"));
        let two = certificate.pem() + &certificate.pem();
        assert!(sent(two).unwrap_err().to_string().contains("2 certificates"));
        std::fs::write(file.path(), certificate.der()).unwrap();
        assert_eq!(read_certificate("--certificate", file.path()).unwrap(), expected);
    }
}
