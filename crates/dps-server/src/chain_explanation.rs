//! The chain that a refused device presented, for whoever asks why. Spec: DPS-X509-21, DPS-EXPLAIN-12.

use dps_core::attestation::Credential;
use dps_core::refusal::Unproven;
use dps_core::x509::{BrokenChain, Place, ShownCertificate, Step, Which, shown};
use dps_proto::date;
use serde_json::{Value, json};

use crate::excerpt::excerpt;

/// Longest name that is kept, in characters: a certificate may have one of 16 KiB. Spec: DPS-EXPLAIN-11.
const NAME_CHARACTERS_MAX: usize = 96;

/// What was received, what path was tried and where it broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainExplanation {
    received: Vec<ShownCertificate>,
    path: Vec<Which>,
    broke: Option<(Which, &'static str)>,
}

impl ChainExplanation {
    /// That of a device that presented certificates, whatever it was refused for.
    pub fn of(unproven: &Unproven, credential: &Credential) -> Option<Self> {
        let chain = credential.certificates.as_ref()?.as_ref().ok()?;
        let received = shown(chain).into_iter().map(shortened).collect();
        let unbroken = Self { received, path: Vec::new(), broke: None };
        let Some(BrokenChain { path, which, fault, .. }) = unproven.broken_chain() else {
            return Some(unbroken);
        };
        let path = path.iter().map(|step| named(&step.which)).collect();
        Some(Self { path, broke: Some((named(which), fault.rule())), ..unbroken })
    }

    /// Members are only ever added.
    pub fn to_json(&self) -> Value {
        let received = self.received.iter().map(certificate);
        let path = self.path.iter().map(which);
        json!({
            "received": received.collect::<Vec<_>>(),
            "path": path.collect::<Vec<_>>(),
            "brokeAt": self.broke.as_ref().map(|(broke, _)| which(broke)),
            "rule": self.broke.as_ref().map(|(_, rule)| rule),
        })
    }

    /// One line for the log: each certificate with its issuer, as they were received.
    pub fn line(&self) -> String {
        let received = self.received.iter().enumerate().map(|(at, certificate)| {
            let ShownCertificate { subject, issuer, sha1_thumbprint, .. } = certificate;
            format!("{}: {subject} (SHA-1 {sha1_thumbprint}) issued by {issuer}", at + 1)
        });
        received.collect::<Vec<_>>().join("; ")
    }
}

/// One certificate for people and programs.
fn certificate(certificate: &ShownCertificate) -> Value {
    json!({
        "subjectName": certificate.subject,
        "issuerName": certificate.issuer,
        "sha1Thumbprint": certificate.sha1_thumbprint.to_string(),
        "sha256Thumbprint": certificate.sha256_thumbprint.to_string(),
        "notBeforeUtc": date::format(certificate.not_before),
        "notAfterUtc": date::format(certificate.not_after),
    })
}

/// One certificate of a path that led to an entry.
pub(crate) fn step(step: &Step) -> Value {
    let mut json = certificate(&step.certificate);
    if let (Some(json), Value::Object(which)) = (json.as_object_mut(), which(&step.which)) {
        json.extend(which);
    }
    json
}

/// Where a certificate of a path came from.
fn which(which: &Which) -> Value {
    let (source, name) = match &which.place {
        Place::Presented(at) => ("device", (at + 1).to_string()),
        Place::Uploaded(name) => ("ca-certificate", name.clone()),
        Place::Enrolled(entry) => ("entry", entry.clone()),
    };
    json!({"source": source, "name": name, "subjectName": which.subject})
}

fn shortened(certificate: ShownCertificate) -> ShownCertificate {
    ShownCertificate {
        subject: excerpt(certificate.subject, NAME_CHARACTERS_MAX),
        issuer: excerpt(certificate.issuer, NAME_CHARACTERS_MAX),
        ..certificate
    }
}

fn named(which: &Which) -> Which {
    Which { subject: excerpt(which.subject.clone(), NAME_CHARACTERS_MAX), ..which.clone() }
}
